"""The scripted operator and its hand; the whole way from its headset to an episode is bringup's test_recording.py.

Pins: a clutch that was lost and is never taken again; a hand that runs ahead while the arm does not follow; a button
that stays pressed; a parameter that makes no sense and a traceback.
"""

import numpy as np
import pytest

from robosteer_sim.operator_hand import PATIENCE_FRAMES, PRESS_FRAMES, REGRIP_FRAMES, OperatorHand

from .graph import DEADLINE_S, start


class RecordingHeadset:
    """A headset that keeps what was sent and shows what the test says."""

    def __init__(self):
        self.sent, self.state, self.closed = [], {}, False

    def send(self, position, rotation, *, squeeze=0.0, trigger=0.0, buttons=()):
        self.sent.append((position, rotation, squeeze, trigger, buttons))

    def close(self):
        self.closed = True


@pytest.fixture
def hand():
    return OperatorHand(RecordingHeadset())


def frames(hand, count, twist=None):
    for _ in range(count):
        hand.move(np.zeros(6) if twist is None else twist, 0.01)
    return hand._headset.sent[-count:]


def test_the_hand_rests_until_the_arm_follows_and_then_moves(hand):
    twist = np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.5])
    hand.gripping = True
    before = frames(hand, 5, twist)[-1]
    np.testing.assert_array_equal(before[0], [0.0, 0.0, 1.2])
    hand._headset.state = {"engaged": True}
    after = frames(hand, 100, twist)[-1]
    np.testing.assert_allclose(after[0], [0.1, 0.0, 1.2])
    np.testing.assert_allclose(after[1] @ [1, 0, 0], [np.cos(0.5), np.sin(0.5), 0], atol=1e-12)


def test_a_lost_clutch_is_let_go_and_taken_again(hand):
    hand.gripping = True
    assert [f[2] for f in frames(hand, REGRIP_FRAMES + 1)] == [0.0] * REGRIP_FRAMES + [1.0]  # shown open first
    hand._headset.state = {"engaged": True}
    assert {f[2] for f in frames(hand, 100)} == {1.0}
    hand._headset.state = {"engaged": False, "need_press": True}
    squeezes = [f[2] for f in frames(hand, PATIENCE_FRAMES + REGRIP_FRAMES + 2)]
    assert squeezes.count(0.0) == REGRIP_FRAMES
    assert squeezes[-1] == 1.0
    assert hand.regrips == 1
    hand.gripping = False
    assert {f[2] for f in frames(hand, 3)} == {0.0}


def test_a_button_is_pressed_for_a_moment(hand):
    hand.press("A")
    hand.close_gripper(1.0)
    sent = frames(hand, PRESS_FRAMES + 2)
    assert [f[4] for f in sent] == [("A",)] * PRESS_FRAMES + [()] * 2
    assert sent[-1][3] == pytest.approx(2 / 3)
    hand.take_off()
    assert hand._headset.closed


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("task:=make tea", "task: found 'make tea'"),
        ("episodes:=0", "episodes: found 0, expected at least 1"),
        ("grid_cells:=[3, 44]", "grid_cell: found 44"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_one_line(rig_path, parameter, message):
    operator = start("scripted_operator", f"rig:={rig_path}", parameter)
    _, problems = operator.communicate(timeout=DEADLINE_S)
    assert operator.returncode == 1
    assert problems.startswith(f"scripted_operator: {message}")
    assert len(problems.strip().splitlines()) == 1
