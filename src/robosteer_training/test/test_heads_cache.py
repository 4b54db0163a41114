"""Activation caches of every model of the family.

Regressions pinned: pi0-FAST refused or read at the wrong token; a cache of other statistics, or of a damaged disk,
taken for the right one; NaN activations stored; draws that do not average; strides that cross episodes; a cache that
depends on its block size; a record that names arrays elsewhere.
"""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from robosteer_model import pi0_fast
from robosteer_model.taps import Tap
from robosteer_rig.errors import RobosteerError
from robosteer_training.frames import model_frames, observation_of, prepare_frames
from robosteer_training.heads.cache import (
    FRAMES_FILE,
    META_FILE,
    SCHEMA,
    CacheSettings,
    describe_episodes,
    fill_cache,
    load_cache,
)
from robosteer_training.heads.source import Source

from .conftest import TASKS, CoarseTokens
from .tiny_model import random_params, tiny_config

DIGESTS = {"checkpoint_digest": "c", "dataset_digest": "d"}


def first_of(frames, count):
    """The first frames only."""
    columns = ("tokens", "tokens_mask", "state", "actions", "episode_index", "usable")
    return dataclasses.replace(frames, **{name: getattr(frames, name)[:count] for name in columns})


def test_fast_is_read_at_the_prompts_end_and_at_the_answers_first_token(fast_base, two_tasks, tmp_path):
    """Against one pass over prompt and answer together, which also shows that no action tokenizer is needed."""
    settings = CacheSettings(("suffix.first", "prefix.last"), block=16)
    frames = model_frames(two_tasks, fast_base)
    assert not frames.fast.predicted.any()
    cache = fill_cache(tmp_path / "c", fast_base.params, fast_base.config, frames, settings, **DIGESTS)
    answers = model_frames(two_tasks, fast_base, CoarseTokens())
    rows = np.array([0, 7, len(frames) - 1])
    taps = [Tap("suffix.attn.z", label="s"), Tap("prefix.attn.z", label="p")]
    together = pi0_fast.text_pass(
        fast_base.params, fast_base.config, observation_of(answers.gather(rows)), taps=taps
    ).taps
    np.testing.assert_allclose(cache.arrays["prefix.last"][:, rows], together["p"], atol=2e-5)
    # In deployment openpi skips one position before the answer: close to the training pass, but not equal.
    first = cache.arrays["suffix.first"][:, rows]
    assert np.abs(first - together["s"]).max() < 0.2 * np.abs(first).max()
    generated = np.argmax(answers.fast.causal[rows], axis=1)
    assert (answers.tokens[rows, generated] == frames.fast.first_token).all()
    with pytest.raises(RobosteerError, match="for pi0_fast"):
        fill_cache(
            tmp_path / "x", fast_base.params, fast_base.config, frames, CacheSettings(("suffix.last",)), **DIGESTS
        )
    with pytest.raises(RobosteerError, match="--action-tokens"):
        prepare_frames(two_tasks, fast_base)


def test_draws_average_and_the_block_does_not_matter(params, config, frames, tmp_path):
    few = first_of(frames, 9)

    def fill(name, **changes):
        settings = CacheSettings(("suffix.first", "suffix.last", "suffix.mean", "prefix.last"), **changes)
        return fill_cache(tmp_path / name, params, config, few, settings, **DIGESTS)

    three, one = fill("three", draws=3), fill("one", block=4)
    np.testing.assert_allclose(fill("again", block=9).arrays["suffix.mean"], one.arrays["suffix.mean"], atol=1e-5)
    assert np.abs(three.arrays["suffix.first"] - one.arrays["suffix.first"]).max() > 1e-3
    np.testing.assert_allclose(three.arrays["prefix.last"], one.arrays["prefix.last"], atol=1e-5)
    assert one.meta["shape"] == [9, 3, 4, 8]


def test_pi0s_state_token_does_not_depend_on_the_noise(frames, tmp_path):
    config = tiny_config(model_type="pi0", discrete_state_input=False)
    few = first_of(frames, 6)
    arrays = [
        fill_cache(
            tmp_path / str(seed), random_params(config), config, few, CacheSettings(noise_seed=seed), **DIGESTS
        ).arrays["suffix.first"]
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(*arrays)


def test_strides_restart_in_every_episode_and_tasks_are_known(base, two_tasks, tmp_path):
    frames = prepare_frames(two_tasks, base)
    told = describe_episodes(two_tasks)
    cache = fill_cache(
        tmp_path / "c", base.params, base.config, frames, CacheSettings(stride=5), episodes=told, **DIGESTS
    )
    starts = [two_tasks.rows(e).start for e in range(6)]
    assert set(starts) <= set(cache.frame_index.tolist())
    assert all(np.diff(cache.frame_index[cache.episode_index == e]).max() == 5 for e in range(6))
    np.testing.assert_array_equal(cache.actions, frames.robot_actions[cache.frame_index])
    rows = Source.of(cache).task_rows()
    assert tuple(rows) == TASKS
    assert set(cache.episode_index[rows[TASKS[1]]]) == {3, 4, 5}
    both = Source.of(cache, cache)
    assert both.at("suffix.first")[1].shape == (2 * cache.rows, 4, 8)
    assert len(np.unique(both.episode_index)) == 12


def test_what_does_not_belong_together_is_refused(base, frames, params, config, tmp_path):
    small = first_of(frames, 8)
    first = fill_cache(tmp_path / "a", params, config, small, CacheSettings(), **DIGESTS)
    shifted = dataclasses.replace(small, state=small.state + 1)  # other statistics: same weights, other inputs
    calls = []
    fill_cache(tmp_path / "a", params, config, shifted, CacheSettings(), **DIGESTS, progress=lambda *a: calls.append(a))
    assert calls
    other = fill_cache(
        tmp_path / "b", params, config, small, CacheSettings(), checkpoint_digest="x", dataset_digest="d"
    )
    with pytest.raises(RobosteerError, match=r"checkpoint_digest .* differs"):
        Source.of(first, other)
    with pytest.raises(RobosteerError, match=r"expected prefix\.last; run"):
        Source.of(first).at("prefix.last")
    (tmp_path / "b" / "suffix.first.npy").write_bytes(b"garbage")
    with pytest.raises(RobosteerError, match="damaged arrays"):
        load_cache(tmp_path / "b")
    whole = (tmp_path / "a" / FRAMES_FILE).read_bytes()
    (tmp_path / "a" / FRAMES_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RobosteerError, match="damaged arrays"):
        load_cache(tmp_path / "a")
    np.save(tmp_path / "b" / "suffix.first.npy", np.zeros((3, 2, 4, 8), np.float32))
    with pytest.raises(RobosteerError, match="other shapes"):
        load_cache(tmp_path / "b")
    with pytest.raises(RobosteerError, match="found none in"):
        load_cache(tmp_path / "nothing")


@pytest.mark.parametrize(
    "told", [{}, {"settings": []}, {"settings": {"positions": ["../outside"]}}, {"settings": {"positions": "suffix"}}]
)
def test_a_record_that_is_none_or_leads_elsewhere_is_no_cache(tmp_path, told):
    np.save(tmp_path / "outside.npy", np.zeros(3))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / META_FILE).write_text(json.dumps({"schema": SCHEMA} | told))
    with pytest.raises(RobosteerError, match="cache: found none in"):
        load_cache(tmp_path / "cache")


def test_nothing_but_a_cache_is_replaced_by_a_cache(params, config, frames, tmp_path):
    def fill(place):
        return fill_cache(place, params, config, first_of(frames, 4), CacheSettings(), **DIGESTS)

    for name in ("home/thesis/chapter.tex", "home/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("years of work")
        with pytest.raises(RobosteerError, match=f"found {tmp_path}/home/[a-z.]+, expected nothing but a cache"):
            fill(tmp_path / "home")
    with pytest.raises(RobosteerError, match="found a file at"):
        fill(tmp_path / "home/notes.txt")
    assert sorted(path.name for path in tmp_path.rglob("*.t*")) == ["chapter.tex", "notes.txt"]
    (tmp_path / "empty").mkdir()
    assert fill(tmp_path / "empty").rows == 4


def test_activations_that_are_no_numbers_stop_the_run(params, config, frames, tmp_path):
    broken = dict(params) | {"action_in_proj": {n: x * jnp.nan for n, x in params["action_in_proj"].items()}}
    with pytest.raises(RobosteerError, match=r"non-finite value at suffix.first in layer 0, head 0, frame 0"):
        fill_cache(tmp_path / "c", broken, config, frames, CacheSettings(), **DIGESTS)


@pytest.mark.parametrize("wrong", [{"positions": ("middle",)}, {"draws": 0}, {"flow_time": 1.5}, {"stride": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(RobosteerError, match="expected"):
        CacheSettings(**wrong)
