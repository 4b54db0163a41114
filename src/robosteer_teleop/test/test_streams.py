"""The failed-stream watch.

Pins: a camera that stops, slows down, skips or has a wrong clock is named; a pause of a topic that may pause is
not; gaps are measured by sensor stamps, so that a late receiver does not accuse a camera; a driver that repeats its
last picture with new stamps looks healthy; a slow second drowns in a long episode.
"""

import pytest

from robosteer_teleop.streams import StreamWatch, header_stamp_ns
from robosteer_teleop.topics import RecordedTopic

CAMERA = RecordedTopic("/camera", "sensor_msgs/msg/CompressedImage", needed=True, rate_hz=10.0, max_gap_s=0.35)
COMMAND = RecordedTopic("/command", "std_msgs/msg/Float64", action=True)
START_NS = 10**18


@pytest.fixture
def watch():
    return StreamWatch([CAMERA, COMMAND])


def feed(watch, messages, seconds, start_s=0.0, rate_hz=10.0, stamp_offset_s=0.0, arrival_jitter_s=0.0, frozen=False):
    for i in range(round(seconds * rate_hz)):
        at_s = start_s + i / rate_hz
        stamp_ns = START_NS + round((at_s + stamp_offset_s) * 1e9)
        arrival_s = at_s + (arrival_jitter_s if i % 5 == 2 else 0.0)
        image = messages.image(stamp_ns, b"jpeg" if frozen else f"jpeg {at_s:.3f}".encode())
        watch.receive("/camera", START_NS + round(arrival_s * 1e9), image, arrival_s)
        watch.tick(at_s)


def test_stamp_is_read_from_serialized_bytes(messages):
    assert header_stamp_ns(messages.header(123_456_789_012)) == 123_456_789_012
    assert header_stamp_ns(messages.header(0)) is None
    assert header_stamp_ns(b"\0\0") is None


def test_healthy_stream_has_no_problem(watch, messages):
    feed(watch, messages, 3.0)
    assert watch.live_problems(3.0) == []
    assert watch.rate_hz("/camera") == pytest.approx(10.0, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "now_s", "kind"),
    [
        ({"seconds": 0.0}, 0.0, "missing"),
        ({"seconds": 3.0}, 5.0, "silent"),
        ({"seconds": 4.0, "rate_hz": 6.5}, 4.0, "rate"),
        ({"seconds": 3.0, "frozen": True}, 3.0, "frozen"),
        ({"seconds": 3.0, "stamp_offset_s": -5.0}, 3.0, "clock"),
        ({"seconds": 3.0, "stamp_offset_s": 5.0}, 3.0, "clock"),
    ],
)
def test_live_problems(watch, messages, arguments, now_s, kind):
    feed(watch, messages, **arguments)
    (problem,) = watch.live_problems(now_s)
    assert (problem.topic, problem.kind) == ("/camera", kind)
    assert "/camera" in str(problem)


def test_episode_gap_is_found_and_command_silence_is_named(watch, messages):
    watch.begin_episode(0.0, START_NS)
    feed(watch, messages, 4.0)
    feed(watch, messages, 4.0, start_s=4.6)
    problems = {(p.topic, p.kind) for p in watch.end_episode(8.6, START_NS + 86 * 10**8)}
    assert problems == {("/camera", "gap"), ("/command", "missing")}


def test_late_receiver_is_no_gap(watch, messages):
    watch.begin_episode(0.0, START_NS)
    watch.receive("/command", START_NS, messages.float64(1.0), 0.0)
    feed(watch, messages, 3.0, arrival_jitter_s=0.5)
    assert watch.end_episode(3.0, START_NS + 30 * 10**8) == []


def test_silence_at_the_end_counts(watch, messages):
    watch.begin_episode(0.0, START_NS)
    feed(watch, messages, 3.0)
    assert ("/camera", "gap") in {(p.topic, p.kind) for p in watch.end_episode(4.0, START_NS + 40 * 10**8)}


def test_simulated_time_is_not_compared_with_the_wall(messages):
    watch = StreamWatch([CAMERA], check_clocks=False)
    feed(watch, messages, 3.0, stamp_offset_s=-1e6)
    assert watch.live_problems(3.0) == []


def test_a_late_poll_after_the_start_is_no_gap(watch, messages):
    watch.begin_episode(0.0, START_NS)
    watch.receive("/camera", START_NS + 10**7, messages.image(START_NS, b"jpeg"), 1.0)
    assert watch.episode_problems(1.0) == []


def test_a_stream_below_90_percent_is_warned_of_and_still_starts(watch, messages):
    feed(watch, messages, 4.0, rate_hz=8.0)
    assert watch.live_problems(4.0) == []
    (warning,) = watch.live_warnings(4.0)
    assert (warning.topic, warning.kind) == ("/camera", "rate")


def test_a_camera_that_moves_again_is_no_longer_frozen(watch, messages):
    feed(watch, messages, 3.0, frozen=True)
    feed(watch, messages, 0.2, start_s=3.0)
    assert watch.live_problems(3.2) == []


def test_pictures_of_a_still_scene_may_be_equal_where_that_is_said(messages):
    watch = StreamWatch([CAMERA], frozen_s=0.0)
    watch.begin_episode(0.0, START_NS)
    feed(watch, messages, 3.0, frozen=True)
    assert watch.live_problems(3.0) == watch.end_episode(3.0, START_NS + 30 * 10**8) == []


def test_a_slow_stretch_marks_a_long_episode(watch, messages):
    watch.begin_episode(0.0, START_NS)
    watch.receive("/command", START_NS, messages.float64(1.0), 0.0)
    feed(watch, messages, 18.0)
    feed(watch, messages, 2.0, start_s=18.0, rate_hz=5.0)
    feed(watch, messages, 10.0, start_s=20.0)
    (problem,) = watch.end_episode(30.0, START_NS + 300 * 10**8)
    assert (problem.kind, problem.found) == ("slow", pytest.approx(5.0, abs=1.0))
