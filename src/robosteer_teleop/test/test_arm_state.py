"""The measured joints on their way to the operator's target.

Regressions pinned: a driver's NaN became the measured pose, took the leash off and, before the first squeeze, became
the target itself; a driver that repeated its last message for ever counted as alive.
"""

import math

import numpy as np
import pytest
from sensor_msgs.msg import JointState

from robosteer_teleop.arm_state import ArmState


@pytest.fixture
def arm(rig):
    return rig.arm


def measured(arm, value, stamp_ns=1):
    message = JointState(name=[*arm.joints, "another"], position=[*[value] * 7, 0.0])
    message.header.stamp.nanosec = stamp_ns
    return message


def test_a_measurement_counts_until_it_is_too_old(arm):
    state = ArmState(arm)
    assert state.position(0.0) is None
    state.hear(measured(arm, 0.5), 10.0)
    np.testing.assert_array_equal(state.position(10.0 + arm.max_age_s), [0.5] * 7)
    assert state.position(10.01 + arm.max_age_s) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_measurement(arm, value):
    state = ArmState(arm)
    state.hear(measured(arm, value), 10.0)
    assert state.position(10.0) is None


def test_a_repeated_message_is_no_measurement_and_an_unstamped_one_is(arm):
    state = ArmState(arm)
    late = 10.0 + 2 * arm.max_age_s
    state.hear(measured(arm, 0.5), 10.0)
    state.hear(measured(arm, 0.5), late)
    assert state.position(late) is None
    for now_s in (late, 2 * late):
        state.hear(measured(arm, 0.5, stamp_ns=0), now_s)
        assert state.position(now_s) is not None
