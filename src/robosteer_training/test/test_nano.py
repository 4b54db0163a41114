"""Pins: a tokenizer that splits state bins or differs between runs, chunks that cross episodes, augmentation that
leaves the range, an auxiliary loss that punishes absent objects or asks for another cube than the instruction's, a
question about the other cube that changes which frames are learnt from, and training that does not resume exactly.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentencepiece

from robosteer_model.transforms import Transforms
from robosteer_training.nano.augment import augment_images
from robosteer_training.nano.batches import TrainingArrays, action_chunks, compute_norm_stats, other_colours, prepare
from robosteer_training.nano.config import BASE_TASKS, COLOURS, nano_config
from robosteer_training.nano.demonstrations import GRID_CELLS, Demonstrations, scenes
from robosteer_training.nano.initialise import initialise, state_bin_features
from robosteer_training.nano.localise import init_head, localisation_loss
from robosteer_training.nano.pretrain import PretrainSettings, pretrain
from robosteer_training.nano.vocabulary import STATE_BINS, state_pieces, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> bytes:
    return train_tokenizer()


@pytest.fixture(scope="module")
def pieces(tokenizer):
    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer)


def test_tokenizer_is_deterministic(tokenizer):
    assert train_tokenizer() == tokenizer


def test_every_state_bin_is_one_token(pieces):
    unknown = pieces.unk_id()
    ids = [pieces.piece_to_id(p) for p in state_pieces()]
    assert unknown not in ids
    assert len(set(ids)) == len(STATE_BINS) == 257


def test_prompts_of_all_colours_have_one_length_that_fits(pieces):
    state = " ".join(["-1", "0", "7", "42", "99", "128", "200", "255"])
    lengths = {len(pieces.encode(f"Task: pick up {c} cube, State: {state};\nAction: ", add_bos=True)) for c in COLOURS}
    assert len(lengths) == 1
    assert lengths.pop() <= nano_config().max_token_len


def test_neighbouring_state_bins_start_alike():
    features = state_bin_features(128)
    distance = np.linalg.norm(features[1:] - features[:-1], axis=1)
    far = np.linalg.norm(features[0] - features[-1])
    assert distance.max() < 0.5 * far


def test_chunks_stop_at_the_end_of_their_episode():
    chunks = action_chunks(np.arange(6)[:, None], np.array([0, 0, 0, 1, 1, 1]), 3)
    assert chunks[..., 0].tolist() == [[0, 1, 2], [1, 2, 2], [2, 2, 2], [3, 4, 5], [4, 5, 5], [5, 5, 5]]


def test_scenes_cover_the_grid_evenly_and_come_from_the_seed():
    chosen = scenes(BASE_TASKS, 2 * GRID_CELLS, seed=3)
    for task in BASE_TASKS:
        assert sorted(s.grid_cell for s in chosen if s.task == task) == list(range(GRID_CELLS))
    assert chosen == scenes(BASE_TASKS, 2 * GRID_CELLS, seed=3)
    assert {s.seed for s in chosen}.isdisjoint({s.seed for s in scenes(BASE_TASKS, 2 * GRID_CELLS, seed=4)})


def test_augmentation_keeps_shape_and_range():
    images = jax.random.uniform(jax.random.key(0), (5, 16, 16, 3), minval=-1, maxval=1)
    changed = augment_images(jax.random.key(1), images, 2)
    assert changed.shape == images.shape
    assert float(jnp.abs(changed).max()) <= 1
    assert not np.allclose(changed, images)


def test_localisation_ignores_absent_objects():
    head = init_head(jax.random.key(0), 8, 2, 1)
    tokens = [jax.random.normal(jax.random.key(1), (3, 4, 8))]
    positions = jnp.zeros((3, 2, 3)).at[:, 1].set(jnp.nan)
    loss = localisation_loss(head, tokens, positions)
    moved = dict(head, bias=head["bias"].at[1].add(100.0))
    assert np.isfinite(loss)
    assert float(localisation_loss(moved, tokens, positions)) == float(loss)
    gradient = jax.grad(localisation_loss)(head, tokens, positions)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def _shown(cubes) -> Demonstrations:
    """Two frames: "pick up red cube" and "pick up blue cube"."""
    zeros = np.zeros((2, 8), np.float32)
    tasks = ("pick up blue cube", "pick up red cube")
    images = np.zeros((2, 2, 64, 64, 3), np.uint8)
    return Demonstrations(images, zeros, zeros, cubes, np.arange(2), np.array([1, 0]), tasks)


def test_each_prompt_comes_with_the_place_of_the_cube_that_it_names(tokenizer, pieces):
    cubes = np.full((2, 4, 3), np.nan, np.float32)
    red, blue, green, yellow = range(4)
    cubes[0, red], cubes[0, yellow], cubes[1, blue], cubes[1, green] = 1, 2, 3, 4
    shown = _shown(cubes)
    arrays = prepare(shown, nano_config(), Transforms(nano_config(), compute_norm_stats(shown), tokenizer))
    np.testing.assert_array_equal(arrays.target[:, 0], [1, 3])
    np.testing.assert_array_equal(arrays.other_target[:, 0], [2, 4])
    words = [[pieces.decode([t]) for t in row if t] for row in arrays.other_tokens.tolist()]
    assert ["yellow" in "".join(row) for row in words] == [True, False]
    assert ["green" in "".join(row) for row in words] == [False, True]


def test_a_cube_that_lies_alone_has_no_other():
    cubes = np.full((2, 4, 3), np.nan, np.float32)
    cubes[:, :2] = 0
    cubes[0, COLOURS.index("blue")] = np.nan
    assert [COLOURS[i] for i in other_colours(_shown(cubes))] == ["red", "red"]


def test_questions_follow_the_frames_that_are_learnt_from(tokenizer):
    arrays = _arrays(_tiny())
    plain = next(arrays.batches(4, 0, 7))
    asked = next(arrays.batches(4, 0, 7, questions=3))
    np.testing.assert_array_equal(plain["tokens"], asked["tokens"][:4])
    assert set(map(tuple, asked["tokens"][4:])) <= set(map(tuple, arrays.other_tokens))
    assert {name: len(values) for name, values in asked.items()} == dict.fromkeys(plain, 7)


def test_images_reach_the_network_from_the_first_step(tokenizer):
    params = initialise(nano_config(), tokenizer, jax.random.key(0))
    assert float(jnp.abs(params["PaliGemma"]["img"]["head"]["kernel"]).max()) > 0


def _tiny():
    config = nano_config()
    expert = dataclasses.replace(config.paligemma, width=64, depth=2, mlp_dim=32)
    siglip = dataclasses.replace(config.siglip, width=32, depth=1, mlp_dim=32, image_resolution=(32, 32))
    return dataclasses.replace(config, paligemma=expert, action_expert=expert, siglip=siglip, action_horizon=3)


def _arrays(config, frames=12) -> TrainingArrays:
    random = np.random.default_rng(0)
    return TrainingArrays(
        images=random.integers(0, 256, (frames, 2, 32, 32, 3), dtype=np.uint8),
        tokens=random.integers(3, config.vocab_size, (frames, config.max_token_len), dtype=np.int32),
        tokens_mask=np.ones((frames, config.max_token_len), bool),
        state=random.normal(size=(frames, 8)).astype(np.float32),
        chunks=np.tile(random.normal(size=(1, 3, 8)), (frames, 1, 1)).astype(np.float32),
        cubes=np.zeros((frames, 4, 3), np.float32),
        target=np.zeros((frames, 3), np.float32),
        other_tokens=random.integers(3, config.vocab_size, (frames, config.max_token_len), dtype=np.int32),
        other_tokens_mask=np.ones((frames, config.max_token_len), bool),
        other_target=np.zeros((frames, 3), np.float32),
    )


def test_pretraining_learns_and_resumes_exactly(tokenizer, tmp_path):
    config = _tiny()
    arrays = _arrays(config)
    settings = PretrainSettings(
        vision_steps=3, steps=24, batch_size=4, draws=2, questions=2, warmup_steps=2, peak_lr=5e-3, save_interval=8
    )
    whole = pretrain(config, tokenizer, arrays, settings, tmp_path / "whole")
    logged = [float(line.split(",")[1]) for line in (tmp_path / "whole" / "log.csv").read_text().splitlines()]
    assert logged[-1] < logged[0]

    class Stopped(Exception):
        pass

    def stop_after(batches, count):
        for number, batch in enumerate(batches):
            if number == count:
                raise Stopped
            yield batch

    class Interrupted(TrainingArrays):
        def batches(self, batch_size, seed, first_step, questions=0):
            return stop_after(super().batches(batch_size, seed, first_step, questions), 10)

    broken = Interrupted(**{f.name: getattr(arrays, f.name) for f in dataclasses.fields(arrays)})
    with pytest.raises(Stopped):
        pretrain(config, tokenizer, broken, settings, tmp_path / "parts")
    resumed = pretrain(config, tokenizer, arrays, settings, tmp_path / "parts")
    for a, b in zip(jax.tree.leaves(whole["average"]), jax.tree.leaves(resumed["average"]), strict=True):
        np.testing.assert_array_equal(a, b)
