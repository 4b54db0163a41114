"""Steering: ramps, limits, time to live, deadman, conflicts.

Regressions pinned: a preset overshot while it was asked for again in the middle of a ramp; an expired preset stayed at
a rounding error above 0; a deadman that was never pressed counted as held; a refused wish had changed something; a
preset acted on another checkpoint than it was made for.
"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_policy.steering.mixer import Mixer, SteerRequest, parse_request
from robosteer_policy.steering.presets import load_presets, parse_preset
from robosteer_rig.errors import RobosteerError

S = 1_000_000_000
HERE, ELSEWHERE = "ab" * 32, "cd" * 32
SLOW = f"""
schema: robosteer.preset/1
name: slow
site: ffn
stream: prefix
targets: {{0: [3, 5]}}
checkpoint: {HERE}
alpha: 4.0
max_strength: 0.8
max_rate: 2.0
"""


def preset(**changes):
    text = SLOW
    for key, value in changes.items():
        lines = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
        text = "\n".join([*lines, f"{key}: {value}"])
    return parse_preset(text, "preset")


PRESETS = {
    "slow": preset(),
    "fast": preset(name="fast", alpha=-4.0),
    "high": preset(name="high", targets="{1: [3]}", max_strength=1.0),
    "also_slow": preset(name="also_slow", targets="{0: [5, 6]}"),
}


def mixer(**options):
    mix = Mixer(PRESETS, **options)
    mix.checkpoint = HERE
    return mix


def ask(preset="slow", strength=0.8, **more):
    return SteerRequest(preset=preset, strength=strength, **more)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0, 5), st.floats(0, 5), st.floats(0, 6))
def test_ramps_are_monotone_bounded_and_no_faster_than_the_preset_allows(first, second, ramp1, ramp2, change_at):
    mix = mixer()
    assert mix.set(ask(strength=first, ramp_s=ramp1, ttl_s=100), 0) == ""
    times = np.arange(0, 12, 0.05)
    values, asked = [], False
    for t in times:
        if t >= change_at and not asked:
            asked = mix.set(ask(strength=second, ramp_s=ramp2, ttl_s=100), int(t * S)) == ""
        values.append(mix.strengths(int(t * S)).get("slow", 0.0))
    assert np.abs(np.diff(values)).max() <= 2.0 * 0.05 + 1e-8, "times are whole nanoseconds"
    assert values[-1] == second, "exactly"
    turn = next(i for i, t in enumerate(times) if t >= change_at)
    for part in (values[: turn + 1], values[turn:]):
        steps = np.diff(part)
        assert (steps >= -1e-12).all() or (steps <= 1e-12).all()
    assert max(values) <= 0.8


def test_time_to_live_ends_in_exact_zero_and_the_preset_is_gone():
    mix = mixer()
    mix.set(ask(ramp_s=0.5, ttl_s=2.0), 0)
    assert mix.strengths(int(1.9 * S)) == {"slow": 0.8}
    falling = [mix.strengths(int(t * S)).get("slow", 0.0) for t in np.arange(2.0, 2.6, 0.05)]
    assert (np.diff(falling) <= 0).all()
    assert mix.strengths(3 * S) == {}
    assert mix.describe(3 * S)["targets"] == {}


def test_expiry_counts_from_its_own_time_even_if_nobody_looked():
    mix = mixer()
    mix.set(ask(ramp_s=0.5, ttl_s=2.0), 0)
    assert mix.strengths(100 * S) == {}


def test_presets_compose_unless_they_want_different_things_of_the_same_value_vector():
    mix = mixer()
    assert mix.set(ask("slow", ramp_s=0), 0) == ""
    assert mix.set(ask("high", 1.0, ramp_s=0), 0) == ""
    assert mix.set(ask("also_slow", 0.5, ramp_s=0), 0) == "", "the same value there"
    assert mix.strengths(S) == {"also_slow": 0.5, "high": 1.0, "slow": 0.8}
    before = mix.describe(S)
    trouble = mix.set(ask("fast", 0.5), S)
    assert trouble.startswith("conflict: fast and ")
    assert "prefix ffn (0, " in trouble
    assert mix.strengths(S) == before["strengths"], "a refused wish changes nothing"
    mix.set(ask("*", 0.0, ramp_s=0), S)
    assert mix.strengths(10 * S) == {}
    assert mix.set(ask("fast", 0.5), 10 * S) == ""


@pytest.mark.parametrize(
    ("request_", "phrase"),
    [
        (ask("ghost"), "preset: found 'ghost', expected one of slow, fast, high, also_slow"),
        (ask("slow", 0.9), "strength: found 0.9, expected at most 0.8 for slow"),
        (ask("high", 0.96), "strength: found 0.96, expected at most 0.95 for high"),
        (ask("slow", 0.5, deadman=True), "deadman: found released"),
    ],
)
def test_what_is_refused_says_why(request_, phrase):
    assert phrase in mixer(max_strength=0.95).set(request_, 0)


def test_a_deadman_holds_and_its_release_or_silence_brings_zero():
    mix = mixer(deadman_required=True)
    mix.deadman(True, 0)
    assert "requires it" in mix.set(ask(), 0)
    assert mix.set(ask(deadman=True, ramp_s=0, ttl_s=60), 0) == ""
    for t in range(10):
        mix.deadman(True, t * S // 10)
    assert mix.strengths(int(0.95 * S)) == {"slow": 0.8}
    assert mix.strengths(int(1.25 * S))["slow"] <= 0.8, "silent for longer than 0.3 s: falling"
    assert mix.strengths(2 * S) == {}
    mix.deadman(True, 2 * S)
    mix.set(ask(deadman=True, ramp_s=0), 2 * S)
    mix.deadman(False, int(2.5 * S))
    mix.strengths(int(2.5 * S))
    assert mix.strengths(3 * S) == {}


def test_a_preset_acts_only_on_the_checkpoint_that_it_was_made_for():
    presets = {
        "foreign": preset(name="foreign", checkpoint=ELSEWHERE),
        "unbound": preset(name="unbound", checkpoint="''"),
        "slow": preset(),
    }
    for allow in (False, True):
        mix = Mixer(presets, allow_unbound=allow)
        assert "still being loaded" in mix.set(ask("slow"), 0)
        mix.checkpoint = HERE
        trouble = mix.set(ask("foreign"), 0)
        assert f"made for {ELSEWHERE}, expected {HERE}; " in trouble, "allowing unbound presets allows no foreign one"
        assert mix.set(ask("foreign", 0.0), 0) == "", "to release is always allowed"
        trouble = mix.set(ask("unbound", ramp_s=0), 0)
        assert trouble == "" if allow else f"write `checkpoint: {HERE}` into it" in trouble
        assert mix.strengths(9 * S) == ({"unbound": 0.8} if allow else {})
        assert mix.set(ask("*", 0.0, ramp_s=0), 9 * S) == ""
        assert mix.set(ask("slow"), 99 * S) == ""
        assert mix.describe(99 * S)["checkpoint"] == HERE


def test_requests_are_parsed_strictly():
    text = json.dumps({"preset": "slow", "strength": 0.5, "ramp_s": 1, "ttl_s": 10})
    assert parse_request(text) == ask(strength=0.5, ramp_s=1.0, ttl_s=10.0)
    for bad, phrase in [
        ("{", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ('{"preset": "slow"}', "strength: found nothing"),
        ('{"preset": "slow", "strength": 2}', "strength: found 2.0, expected 0 ... 1"),
        ('{"preset": "slow", "strength": NaN}', "finite"),
        ('{"preset": "slow", "strength": 0.1, "alpha": 3}', "alpha: found an unknown field"),
        ('{"preset": "*", "strength": 0.1}', "preset: found '*'"),
        ('{"preset": "slow", "strength": 0.1, "schema": "x"}', "schema: found 'x'"),
    ]:
        with pytest.raises(RobosteerError, match="steer: ") as error:
            parse_request(bad)
        assert phrase in str(error.value)


def test_presets_are_files(tmp_path):
    (tmp_path / "a.yaml").write_text(SLOW)
    assert load_presets(tmp_path)["slow"].pairs == ((0, 3), (0, 5))
    (tmp_path / "b.yaml").write_text(SLOW)
    with pytest.raises(RobosteerError, match="the name slow twice"):
        load_presets(tmp_path)
    with pytest.raises(RobosteerError, match=r"found no \*\.yaml"):
        load_presets(tmp_path / "nowhere")
    for changes, phrase in [
        ({"site": "heads"}, "alpha: found 4.0, expected 0 for heads"),
        ({"max_strength": 2}, "max_strength: found 2.0"),
        ({"targets": "{}"}, "targets: found"),
        ({"targets": "{x: [1]}"}, "expected whole numbers"),
        ({"name": "Fast one"}, "name: found 'Fast one'"),
        ({"strength": 1}, "strength: found an unknown field"),
        ({"checkpoint": "abc"}, "checkpoint: found 'abc', expected 64 hexadecimal digits"),
    ]:
        with pytest.raises(RobosteerError) as error:
            preset(**changes)
        assert phrase in str(error.value)
