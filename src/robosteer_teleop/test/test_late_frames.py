"""Late frames on the console: one line when they begin, one when they end.

Pins: a warning for every late frame of a bad network, hundreds a minute; an end that is announced in the middle of
it, or never; a line that hides another event.
"""

from hypothesis import given
from hypothesis import strategies as st

from robosteer_teleop.late_frames import QUIET_S, LateFrames
from robosteer_teleop.server import LinkEvent, LinkEventKind


def stale(time_s, gap_s=0.11):
    return LinkEvent(LinkEventKind.STALE, time_s, {"gap_s": gap_s})


def resumed(time_s, gap_s):
    return LinkEvent(LinkEventKind.RESUMED, time_s, {"gap_s": gap_s})


def disordered(time_s, count):
    return LinkEvent(LinkEventKind.BAD_FRAME, time_s, {"reason": "frame 3 after frame 4", "out_of_order": count})


def test_a_bad_network_is_two_lines():
    late = LateFrames()
    lines = [late.hear(stale(10.0)), late.hear(resumed(10.2, 0.3)), late.hear(disordered(10.3, 1))]
    for k in range(50):
        lines += [late.hear(stale(11.0 + k)), late.hear(resumed(11.1 + k, 0.2)), late.poll(11.2 + k)]
    assert lines[0] == "frames of the headset come late (none for 0.11 s); the next line says when that is over"
    assert set(lines[1:]) == {""}
    assert late.poll(60.1 + QUIET_S - 0.01) == ""
    line = "frames of the headset come in time again: 51 silences, the longest 0.30 s, 1 out of order, within 50.1 s"
    assert late.poll(60.1 + QUIET_S) == line
    assert late.poll(99.0) == ""
    assert late.hear(disordered(100.0, 2)).startswith("frames of the headset come late (out of order)")
    assert late.poll(200.0).endswith("0 silences, the longest 0.00 s, 1 out of order, within 0.0 s")


def test_a_silence_is_not_over_before_somebody_is_heard_or_gone():
    late = LateFrames()
    late.hear(stale(1.0))
    assert late.poll(500.0) == ""
    assert late.hear(LinkEvent(LinkEventKind.OPERATOR_DISCONNECTED, 501.0)) is None
    assert late.poll(501.0 + QUIET_S).startswith("frames of the headset come in time again: 1 silences")


def test_other_events_are_none_of_it():
    late = LateFrames()
    for kind in set(LinkEventKind) - {LinkEventKind.STALE, LinkEventKind.RESUMED}:
        assert late.hear(LinkEvent(kind, 1.0, {"reason": "a frame of 3 bytes"})) is None
    assert late.poll(100.0) == ""


@given(st.lists(st.tuples(st.sampled_from(["stale", "resumed", "disordered", "wait"]), st.floats(0.01, 3.0))))
def test_lines_alternate(story):
    late, now, said = LateFrames(), 0.0, []
    for what, seconds in story:
        now += seconds
        made = {"stale": stale(now), "resumed": resumed(now, seconds), "disordered": disordered(now, 1)}
        said += [line for line in (late.hear(made[what]) if what in made else "", late.poll(now)) if line]
    ends = ["in time again" in line for line in said]
    assert ends == [k % 2 == 1 for k in range(len(ends))]
