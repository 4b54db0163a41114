"""Pins: a sequence of events, however odd, after which the guard leaves a limit or silence does not end in rest."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_policy.guard.gate import Source

from .gate_bench import MS, Bench
from .panda import ACCELERATION_MAX, JOINTS, POSITION_MAX, POSITION_MIN, VELOCITY_MAX

number = st.one_of(st.floats(-3, 3), st.sampled_from([np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 0.0]))
event = st.one_of(
    st.tuples(st.just("say"), st.sampled_from(Source), st.lists(number, max_size=9), st.integers(-3000, 3000)),
    st.tuples(st.just("steady"), st.lists(st.floats(-3, 3), min_size=7, max_size=7)),
    st.tuples(st.just("arm")),
    st.tuples(st.just("disarm")),
    st.tuples(st.just("select"), st.sampled_from(Source)),
    st.tuples(st.just("late"), st.integers(1, 400)),
    st.tuples(st.just("clock"), st.floats(-1e6, 1e6)),
    st.tuples(st.just("measure"), st.booleans()),
    st.tuples(st.just("gripper"), st.sampled_from(Source), number),
    st.tuples(st.just("joints"), st.lists(number, max_size=9), st.integers(-3000, 3000)),
)


def perform(bench, what, *arguments):
    """One event of a random story."""
    if what == "say":
        source, velocity, age_ms = arguments
        bench.say(velocity, source, age_ms, (*JOINTS, "x", "y")[: len(velocity)])
    elif what == "steady":
        for _ in range(15):
            bench.say(*arguments, bench.gate.source)
            bench.period()
    elif what == "arm":
        bench.gate.arm(bench.now)
    elif what == "disarm":
        bench.gate.disarm()
    elif what == "select":
        bench.gate.select(*arguments)
    elif what == "late":
        bench.period(*arguments)
    elif what == "clock":
        bench.offset += int(arguments[0] * 1e9)
    elif what == "measure":
        bench.measuring = arguments[0]
    elif what == "gripper":
        bench.gate.on_gripper(*arguments, bench.now)
    else:
        values, age_ms = arguments
        names = (*JOINTS, "x", "y")[: len(values)]
        bench.gate.on_joint_state(bench.now.clock_ns - age_ms * MS, names, values, values, bench.now)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(Source), st.lists(event, max_size=25))
def test_any_story_stays_inside_the_limits_and_silence_ends_in_rest(source, story):
    bench = Bench(source)
    for what, *arguments in story:
        trusted = bench.measuring and what != "joints"
        perform(bench, what, *arguments)
        acceleration = bench.period()
        assert (np.abs(acceleration) <= ACCELERATION_MAX + 1e-6).all()
        if trusted and what != "late":
            assert (bench.position >= POSITION_MIN - 0.2).all()
            assert (bench.position <= POSITION_MAX + 0.2).all()
    fastest = np.abs(bench.velocity).max()
    rest_s = bench.until_rest()
    assert rest_s <= 0.1 + 0.01 + (VELOCITY_MAX / ACCELERATION_MAX).max() + 0.02
    if fastest <= 1.0:
        assert rest_s <= 0.3
    held = bench.position.copy()
    for _ in range(60):
        bench.period()
    np.testing.assert_array_equal(bench.position, held)
