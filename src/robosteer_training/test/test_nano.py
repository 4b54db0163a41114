"""Pins: a tokenizer that splits state bins or differs between runs, chunks that cross episodes, augmentation that
leaves the range, an auxiliary loss that punishes absent objects or asks for objects other than the named, a base
that was taught what few-shot adaptation is measured on, and training that does not resume exactly, or that
loses steps when it is told to stop.
"""

import dataclasses
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentencepiece

from robosteer_model.transforms import Transforms
from robosteer_rig.interrupts import termination_interrupts
from robosteer_training.interrupt import Stopped
from robosteer_training.nano.augment import augment_images
from robosteer_training.nano.batches import TrainingArrays, action_chunks, compute_norm_stats, named_objects, prepare
from robosteer_training.nano.config import BASE_TASKS, OBJECTS, nano_config
from robosteer_training.nano.demonstrations import GRID_CELLS, RANDOMISED_EVERY, Demonstrations, scenes
from robosteer_training.nano.initialise import initialise, state_bin_features
from robosteer_training.nano.localise import init_head, localisation_loss
from robosteer_training.nano.pretrain import PretrainSettings, pretrain
from robosteer_training.nano.vocabulary import STATE_BINS, state_pieces, train_tokenizer
from robosteer_training.paper import numbers


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


@pytest.mark.parametrize("task", [*BASE_TASKS, *numbers.TASKS, numbers.UNSEEN, "pick up green cube"])
def test_every_prompt_fits_and_has_known_words(pieces, task):
    state = " ".join(["-1", "0", "7", "42", "99", "128", "200", "255"])
    tokens = pieces.encode(f"Task: {task}, State: {state};\nAction: ", add_bos=True)
    assert len(tokens) <= nano_config().max_token_len
    assert pieces.unk_id() not in tokens


def test_the_base_is_never_asked_what_adaptation_is_measured_on():
    words = {word for task in BASE_TASKS for word in task.split()}
    assert not words & {"red", "green", "mug"}


def test_neighbouring_state_bins_start_alike():
    features = state_bin_features(128)
    distance = np.linalg.norm(features[1:] - features[:-1], axis=1)
    far = np.linalg.norm(features[0] - features[-1])
    assert distance.max() < 0.5 * far


def test_chunks_stop_at_the_end_of_their_episode():
    chunks = action_chunks(np.arange(6)[:, None], np.array([0, 0, 0, 1, 1, 1]), 3)
    assert chunks[..., 0].tolist() == [[0, 1, 2], [1, 2, 2], [2, 2, 2], [3, 4, 5], [4, 5, 5], [5, 5, 5]]


def test_scenes_cover_the_grid_evenly_and_come_from_the_seed():
    count = len(BASE_TASKS) * GRID_CELLS
    chosen = scenes(BASE_TASKS, count, seed=3)
    for task in BASE_TASKS:
        assert sorted(s.grid_cell for s in chosen if s.task == task) == list(range(GRID_CELLS))
    assert chosen == scenes(BASE_TASKS, count, seed=3)
    assert {s.seed for s in chosen}.isdisjoint({s.seed for s in scenes(BASE_TASKS, count, seed=4)})


def test_every_task_and_cell_is_seen_under_random_appearance():
    count = len(BASE_TASKS) * GRID_CELLS
    random = [s for s in scenes(BASE_TASKS, RANDOMISED_EVERY * count, seed=3) if s.variation]
    assert {s.variation for s in random} == {"randomised"}
    assert {(s.task, s.grid_cell) for s in random} == {(t, c) for t in BASE_TASKS for c in range(GRID_CELLS)}
    assert len(random) == count


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


def test_each_prompt_comes_with_the_places_of_what_it_names(tokenizer):
    tasks = ("pick up blue cube", "place yellow cube in blue bowl")
    objects = np.full((2, len(OBJECTS), 3), np.nan, np.float32)
    for place, name in enumerate(("yellow cube", "blue cube", "blue bowl")):
        objects[:, OBJECTS.index(name)] = place
    zeros = np.zeros((2, 8), np.float32)
    shown = Demonstrations(
        np.zeros((2, 2, 64, 64, 3), np.uint8), zeros, zeros, objects, np.arange(2), np.array([1, 0]), tasks
    )
    arrays = prepare(shown, nano_config(), Transforms(nano_config(), compute_norm_stats(shown), tokenizer))
    np.testing.assert_array_equal(arrays.meant[..., 0], [[0, 2], [1, np.nan]])


def test_every_base_task_names_what_it_acts_upon():
    targets = {task: OBJECTS[named_objects(task)[0]] for task in BASE_TASKS}
    assert targets["place marker in blue bowl"] == "marker"
    assert targets["push blue cup to yellow bowl"] == "blue cup"
    with pytest.raises(ValueError, match="pick up mug"):
        named_objects("pick up mug")


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
        objects=np.zeros((frames, len(OBJECTS), 3), np.float32),
        meant=np.zeros((frames, 2, 3), np.float32),
    )


def test_pretraining_learns_and_resumes_exactly(tokenizer, tmp_path):
    config = _tiny()
    arrays = _arrays(config)
    settings = PretrainSettings(
        vision_steps=3, steps=24, batch_size=4, draws=2, warmup_steps=2, peak_lr=5e-3, save_interval=8
    )
    whole = pretrain(config, tokenizer, arrays, settings, tmp_path / "whole")
    logged = [float(line.split(",")[1]) for line in (tmp_path / "whole" / "log.csv").read_text().splitlines()]
    assert logged[-1] < logged[0]

    class Crash(Exception):
        pass

    def crash():
        raise Crash

    class Disturbed(TrainingArrays):
        disturb = staticmethod(crash)

        def batches(self, batch_size, seed, first_step):
            for number, batch in enumerate(super().batches(batch_size, seed, first_step)):
                if number == 10:
                    self.disturb()
                yield batch

    disturbed = Disturbed(**{f.name: getattr(arrays, f.name) for f in dataclasses.fields(arrays)})
    with pytest.raises(Crash):
        pretrain(config, tokenizer, disturbed, settings, tmp_path / "parts")
    Disturbed.disturb = staticmethod(lambda: signal.raise_signal(signal.SIGTERM))
    with termination_interrupts(), pytest.raises(Stopped, match="stopped at step 19 of 24"):  # from 8, the last kept
        pretrain(config, tokenizer, disturbed, settings, tmp_path / "parts")
    again = []
    Disturbed.disturb = staticmethod(lambda: again.append("later than step 19"))
    resumed = pretrain(config, tokenizer, disturbed, settings, tmp_path / "parts")
    assert not again
    for a, b in zip(jax.tree.leaves(whole["average"]), jax.tree.leaves(resumed["average"]), strict=True):
        np.testing.assert_array_equal(a, b)
