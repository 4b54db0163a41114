"""The measured joints on their way to the operator's target.

Regressions pinned: a driver's NaN became the measured pose, took the leash off and, before the first squeeze, became
the target itself; a driver that repeated its last message for ever counted as alive; measurements that came a second
late counted as of now, and the leash was held to where the arm had been.
"""

import math

import numpy as np
import pytest
from sensor_msgs.msg import JointState

from robosteer_teleop.arm_state import ArmState


@pytest.fixture
def arm(rig):
    return rig.arm


EPOCH_NS = 1_700_000_000_000_000_000


def measured(arm, value, stamp_ns=EPOCH_NS):
    message = JointState(name=[*arm.joints, "another"], position=[*[value] * 7, 0.0])
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    return message


def test_a_measurement_counts_from_its_stamp_until_it_is_too_old(arm):
    state, late_s = ArmState(arm), 0.02
    assert state.position(0.0) is None
    state.hear(measured(arm, 0.5), 10.0, EPOCH_NS + round(late_s * 1e9))
    np.testing.assert_array_equal(state.position(9.99 - late_s + arm.max_age_s), [0.5] * 7)
    assert state.position(10.01 - late_s + arm.max_age_s) is None


def test_a_measurement_that_was_under_way_for_too_long_is_none(arm):
    state = ArmState(arm)
    state.hear(measured(arm, 0.5), 10.0, EPOCH_NS + round((arm.max_age_s + 0.01) * 1e9))
    assert state.position(10.0) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_measurement(arm, value):
    state = ArmState(arm)
    state.hear(measured(arm, value), 10.0, EPOCH_NS)
    assert state.position(10.0) is None


def test_a_repeated_message_is_no_measurement_and_an_unstamped_one_is(arm):
    state = ArmState(arm)
    state.hear(measured(arm, 0.5), 10.0, EPOCH_NS)
    state.hear(measured(arm, 0.5), 10.0 + 2 * arm.max_age_s, EPOCH_NS)
    assert state.position(10.0 + 2 * arm.max_age_s) is None
    for now_s in (20.0, 30.0):
        state.hear(measured(arm, 0.5, stamp_ns=0), now_s, EPOCH_NS)
        assert state.position(now_s) is not None
