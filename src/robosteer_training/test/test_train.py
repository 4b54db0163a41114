"""Training, resuming, exporting.

Regressions pinned: a run that does not learn; a resumed run that differs in a bit; base weights that move; a state of
another run that is continued; NaN written over a good state; a state that is held twice while it is written; cached
vision tokens that give another loss; an exported checkpoint that acts differently.
"""

import dataclasses
import signal
import tracemalloc
from functools import partial

import jax
import numpy as np
import optax
import pytest

from robosteer_model.checkpoint import load_checkpoint
from robosteer_model.params import flatten
from robosteer_rig.errors import RobosteerError
from robosteer_training.export import Check, export
from robosteer_training.finetune.batches import Prefetch, Sampler, stream_rows
from robosteer_training.finetune.loss import Work, batch_loss, draw, light_augmentation
from robosteer_training.finetune.recipes import recipe_by_name
from robosteer_training.finetune.settings import TrainSettings
from robosteer_training.finetune.spec import AdapterSpec
from robosteer_training.finetune.state import History, TrainState, load_state, save_state
from robosteer_training.finetune.train import BAD_BATCH_FILE, STATE_FILE, Watch, train
from robosteer_training.finetune.vision import encode_frames
from robosteer_training.frames import observation_of, split_episodes
from robosteer_training.interrupt import Stopped

SETTINGS = TrainSettings(
    steps=12, batch_size=8, peak_lr=5e-3, warmup_steps=0, holdout=0.2, eval_every=0, eval_draws=2, save_every=5
)
HEADS = ((0, 1), (1, 2))


@pytest.fixture(scope="module")
def spec(config):
    return AdapterSpec(config, recipe_by_name("steering"), HEADS)


@pytest.fixture(scope="module")
def encoded(params, config, frames, tmp_path_factory):
    tokens = encode_frames(params, config, frames, SETTINGS, tmp_path_factory.mktemp("vision"))
    return dataclasses.replace(frames, image_tokens=tokens)


@pytest.fixture(scope="module")
def trained(params, spec, encoded, tmp_path_factory):
    return train(params, spec, encoded, SETTINGS, tmp_path_factory.mktemp("train"), source="a")


def test_heldout_loss_falls_and_the_base_stays(params, spec, trained):
    (first, before), (last, after) = trained.history.heldout
    assert (first, last) == (0, 12)
    assert after < 0.9 * before
    assert len(trained.history.loss) == 12
    assert len(trained.heldout_episodes) == 1
    assert set(trained.adapter) == set(spec.leaves)


def test_a_state_is_written_without_a_second_copy_in_memory(tmp_path):
    size = 32 * 2**20
    state = TrainState(np.int32(1), {"leaf": np.zeros(size // 4, np.float32)}, optax.EmptyState())
    tracemalloc.start()
    save_state(tmp_path / "state.npz", state, History(), "run")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "state.npz").stat().st_size > size
    assert peak < size


def test_a_state_cut_short_or_with_a_flipped_bit_is_one_line(tmp_path):
    path, state = tmp_path / "state.npz", TrainState(np.int32(1), {"leaf": np.ones(64, np.float32)}, optax.EmptyState())
    save_state(path, state, History(), "run")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(np.ones(64, np.float32).tobytes()) + 8] ^= 1
    for damaged in (whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(RobosteerError, match="cannot read the training state"):
            load_state(path, state, "run")


def test_a_resumed_run_is_the_same_run(params, spec, encoded, trained, tmp_path):
    def stop_at_seven(step, history):
        if step == 7:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped, match="step 7 of 12"):
        train(params, spec, encoded, SETTINGS, tmp_path, source="a", watch=Watch(stop_at_seven))
    assert (tmp_path / STATE_FILE).exists()
    steps = []
    watch = Watch(lambda step, history: steps.append(step))
    again = train(params, spec, encoded, SETTINGS, tmp_path, source="a", resume=True, watch=watch)
    assert steps == [8, 9, 10, 11, 12]
    assert again.history.loss == trained.history.loss
    assert again.history.heldout == trained.history.heldout
    assert again.history.action_error == trained.history.action_error
    for path, leaf in trained.adapter.items():
        assert np.asarray(leaf).tobytes() == np.asarray(again.adapter[path]).tobytes(), path
    with pytest.raises(RobosteerError, match="another run"):
        train(params, spec, encoded, SETTINGS, tmp_path, source="other data", resume=True)
    (tmp_path / STATE_FILE).write_bytes(b"PK half a file")
    with pytest.raises(RobosteerError, match="cannot read the training state"):
        train(params, spec, encoded, SETTINGS, tmp_path, source="a", resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_frames(params, spec, encoded, tmp_path):
    broken = dataclasses.replace(encoded, actions=encoded.actions.copy())
    kept, _ = split_episodes(encoded.episode_index, SETTINGS.holdout, SETTINGS.seed)
    bad = Sampler((encoded.rows_of(kept),), SETTINGS.batch_size, SETTINGS.seed)(2)[0]
    broken.actions[bad] = np.nan
    with pytest.raises(RobosteerError, match="expected a finite number"):
        train(params, spec, broken, SETTINGS, tmp_path, source="a")
    with np.load(tmp_path / BAD_BATCH_FILE) as file:
        assert len(file["rows"]) == SETTINGS.batch_size
        blamed = file["rows"][np.isnan(file["actions"]).any(axis=(1, 2))]
        assert ((blamed <= bad) & (bad < blamed + encoded.horizon)).all()  # its chunk holds the bad frame
        assert {"noise", "time", "state", "image/base_0_rgb", "tokenized_prompt"} <= set(file.files)
    with np.load(tmp_path / STATE_FILE) as file:
        arrays = [file[name] for name in file.files if name != "meta"]
    assert all(np.isfinite(a).all() for a in arrays)


def test_cached_vision_tokens_give_the_same_loss(params, config, frames, encoded):
    rows = np.array([0, 13, 69])
    noise, time = draw(jax.random.key(1), (3, config.action_horizon, config.action_dim))
    loss = jax.jit(partial(batch_loss, work=Work(skip_dead=False)), static_argnums=1)
    want = loss(params, config, frames.gather(rows), noise, time)
    np.testing.assert_allclose(loss(params, config, encoded.gather(rows), noise, time), want, rtol=1e-5)


def test_export_writes_an_ordinary_checkpoint_that_acts_the_same(base, spec, frames, trained, tmp_path):
    rows = frames.rows_of(np.array(trained.heldout_episodes))
    done = export(
        tmp_path / "checkpoint",
        base,
        trained.adapter,
        spec,
        Check(frames, rows),
        rig="rig text",
        provenance={"heads": HEADS},
    )
    assert done.max_action_difference < 1e-4
    loaded = load_checkpoint(done.path)
    assert loaded.config == base.config
    assert loaded.rig == "rig text"
    assert loaded.provenance["versions"]["jax"] == jax.__version__
    assert loaded.tokenizer == base.tokenizer
    before, after = flatten(base.params), flatten(loaded.params)
    moved = {p for p in before if np.asarray(before[p]).tobytes() != np.asarray(after[p]).tobytes()}
    trainable = ("q_einsum/w", "attn_vec_einsum/w", "mlp/gating_einsum", "mlp/linear")
    assert all(p.endswith(trainable) or p.startswith(("action_", "time_")) for p in moved)
    assert any(p.endswith("q_einsum/w") for p in moved)


def test_batches_are_shuffled_epochs_that_depend_on_the_step_alone():
    rows = np.arange(100, 110)
    stream = np.concatenate([Sampler((rows,), 4, 7)(step) for step in range(10)])
    assert sorted(stream[:10]) == sorted(stream[10:20]) == rows.tolist()
    assert stream[:10].tolist() != stream[10:20].tolist()
    assert sorted(stream_rows(rows, 0, 25, 7)[:20].tolist()) == sorted([*rows, *rows])


def test_a_batch_that_cannot_be_made_is_raised_where_it_is_used():
    def make(step):
        if step == 2:
            raise OSError("disk gone")
        return step

    with pytest.raises(OSError, match="disk gone"), Prefetch(make, range(5)) as batches:
        assert [*zip(range(3), batches, strict=False)]


def test_augmentation_shifts_exterior_views_only(frames):
    observation = observation_of(frames.gather(np.arange(4)))
    changed = light_augmentation(jax.random.key(0), observation)
    assert changed.images["base_0_rgb"].shape == observation.images["base_0_rgb"].shape
    for slot, geometry_kept in (("left_wrist_0_rgb", True), ("base_0_rgb", False)):
        before, after = (np.asarray(o.images[slot])[0, 4:-4, 4:-4, 0].ravel() for o in (observation, changed))
        inside = np.abs(after) < 1
        assert bool(abs(np.corrcoef(before[inside], after[inside])[0, 1]) > 0.99) is geometry_kept


def test_few_episodes_are_all_trained_on():
    assert split_episodes(np.array([0, 0, 1]), 0.1, 0)[1].size == 0
    kept, held_out = split_episodes(np.repeat(np.arange(20), 3), 0.1, 0)
    assert len(held_out) == 2
    assert not set(kept) & set(held_out)
