"""The aligner, which live control and conversion share.

Regressions pinned: a frame is made of messages from its future; a stream that died is silently repeated; frames depend
on whether messages come one by one or all at once; memory grows with a stream that nobody reads; a clock that is set
back, or a forged stamp, blocks the aligner or makes it emit for hours; threads corrupt the buffers.
"""

import dataclasses
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robosteer_rig.align import Aligner, StreamBuffer
from robosteer_rig.errors import RobosteerError
from robosteer_rig.messages import JointSample
from robosteer_rig.rig import GRIPPER_STATE, JOINT_STATE
from robosteer_rig.streams import MAX_BYTES

from .bench import GREY, MS, ZERO, compressed, joint_state, sim_rig

RIG = sim_rig()
START = 1_700_000_000_000_000_000
PERIODS = {"wrist": 66 * MS, "left": 67 * MS, JOINT_STATE: 10 * MS, GRIPPER_STATE: 33 * MS}


def value_of(stream, i):
    return {JOINT_STATE: JointSample(np.full(7, float(i)), np.zeros(7)), GRIPPER_STATE: i / 1000}.get(stream, GREY)


def schedule(seconds=1.0, seed=0, shuffle_ns=0):
    """(arrival, stream, stamp, value) in order of arrival; delays within `shuffle_ns` reorder messages."""
    rng = np.random.default_rng(seed)
    items = []
    for stream, period in PERIODS.items():
        phase = int(rng.integers(0, period))
        for i in range(int(seconds * 1e9 / period)):
            stamp = START + phase + i * period + int(rng.integers(0, period // 3))
            arrival = stamp + int(rng.integers(0, shuffle_ns + 1))
            items.append((arrival, stream, stamp, value_of(stream, i)))
    return sorted(items, key=lambda item: item[0])


def same(a, b):
    assert a.stamp_ns == b.stamp_ns
    assert a.ages_ns == b.ages_ns
    assert a.stale == b.stale
    assert (a.joint_position == b.joint_position).all()
    assert a.gripper_position == b.gripper_position
    assert all((a.images[name] == b.images[name]).all() for name in a.images)


def run(items, *, each=True, **options):
    aligner, frames = Aligner(RIG, **options), []
    for arrival, stream, stamp, value in items:
        aligner.push(stream, stamp, value, arrival)
        if each:
            frames += aligner.ready()
    return aligner, [*frames, *aligner.ready(), *aligner.flush()]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 5 * MS, 120 * MS]))
def test_every_input_is_the_latest_at_or_before_the_frame(seed, shuffle):
    items = schedule(seconds=0.7, seed=seed, shuffle_ns=shuffle)
    aligner, frames = run(items, each=False)
    assert frames
    first = max(min(s for _, name, s, _ in items if name == stream) for stream in PERIODS)
    for k, frame in enumerate(frames):
        assert frame.stamp_ns == first + round(k * 1e9 / 15)
        assert set(frame.ages_ns) == set(PERIODS)
        for stream, age in frame.ages_ns.items():
            past = [s for _, name, s, _ in items if name == stream and s <= frame.stamp_ns]
            assert age == frame.stamp_ns - max(past)
        assert not frame.stale or shuffle
    assert sum(c.received for c in aligner.counts.values()) == len(items)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_frames_do_not_depend_on_when_one_asks(seed):
    """Without reordering across a decided frame, asking after each message and asking once give the same frames."""
    items = schedule(seconds=0.7, seed=seed)
    _, live = run(items, each=True)
    _, offline = run(items, each=False)
    assert len(live) == len(offline)
    for a, b in zip(live, offline, strict=True):
        same(a, b)
    immediate = Aligner(RIG)
    for arrival, stream, stamp, value in items:
        immediate.push(stream, stamp, value, arrival)
    same(immediate.frame_at(live[-1].stamp_ns), live[-1])


def test_nothing_before_every_stream_has_spoken():
    aligner = Aligner(RIG)
    for stream in PERIODS:
        assert aligner.frame_at(START + 10 * MS) is None
        assert aligner.ready() == []
        aligner.push(stream, START, value_of(stream, 0))
    assert aligner.frame_at(START - 1) is None
    frame = aligner.frame_at(START)
    assert frame.ages_ns == dict.fromkeys(PERIODS, 0)
    assert aligner.ready() == []  # a message with the same stamp may still come
    assert [f.stamp_ns for f in aligner.flush()] == [START]


def test_a_dead_camera_is_marked_and_does_not_hold_the_others_up():
    items = [i for i in schedule(seconds=3.0) if not (i[1] == "left" and i[2] > START + 500 * MS)]
    _, frames = run(items)
    assert 40 <= len(frames) <= 45
    late = [f for f in frames if f.stamp_ns > START + 900 * MS]
    assert late
    assert all(f.stale == ("left",) for f in late)
    assert all(not f.stale for f in frames if f.stamp_ns < START + 600 * MS)


def test_streams_count_what_is_wrong():
    buffer = StreamBuffer[int](rate_hz=100, max_age_s=0.05)
    for stamp in (0, 10, 10, 20, 60, 40, 70):
        buffer.push(stamp * MS, stamp)
    counts = buffer.counts
    assert (counts.received, counts.duplicates, counts.out_of_order) == (7, 1, 1)
    assert (counts.gaps, counts.missed, counts.max_gap_ns) == (1, 3, 40 * MS)
    assert buffer.latest(59 * MS) == (40 * MS, 40)
    buffer.forget_before(65 * MS)
    assert len(buffer) == 2
    buffer.push(50 * MS, 50)
    assert counts.late == 1
    assert buffer.latest(65 * MS) == (60 * MS, 60)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3000, 3000), max_size=60))
def test_a_buffer_stays_ordered_whatever_arrives(steps):
    buffer, stamp = StreamBuffer[int](rate_hz=15, max_age_s=0.2), START
    for step in steps:
        stamp += step * MS
        buffer.push(stamp, stamp)
        assert buffer.newest_ns >= buffer.oldest_ns
        assert buffer.latest(stamp) is not None or buffer.counts.late
    counts = buffer.counts
    assert counts.received == len(steps)
    kept = [buffer.latest(t) for t in range(START - 200_000 * MS, START + 200_000 * MS, 1000 * MS)]
    found = [k for k in kept if k is not None]
    assert [s for s, _ in found] == sorted(s for s, _ in found)
    assert all(s == v for s, v in found)


def test_memory_is_bounded():
    by_count = StreamBuffer[int](rate_hz=100, max_age_s=0.05)
    for i in range(5000):
        by_count.push(i * 10 * MS, i)
    assert len(by_count) == 600
    assert by_count.counts.evicted == 4400
    by_bytes = StreamBuffer[int](rate_hz=60, max_age_s=0.05)
    for i in range(100):
        by_bytes.push(i * 16 * MS, i, size=MAX_BYTES // 10)
    assert len(by_bytes) == 10
    assert by_bytes.latest(10**12) == (99 * 16 * MS, 99)


@pytest.mark.parametrize("jump_s", [-3600, -2, 3600, 10**9])
def test_a_clock_that_is_set_starts_a_new_time(jump_s):
    before = schedule(seconds=0.5)
    after = [(a + 500 * MS, n, s + 500 * MS + jump_s * 10**9, v) for a, n, s, v in schedule(seconds=0.5, seed=1)]
    aligner, frames = Aligner(RIG), []
    for arrival, stream, stamp, value in before + after:
        aligner.push(stream, stamp, value, arrival)
        frames += aligner.ready()
    counts = aligner.counts.values()
    assert sum(c.jumps_back + c.jumps_forward for c in counts) > 0
    assert 8 <= len(frames) <= 20
    assert {f.stamp_ns > START + 2000 * 10**9 or f.stamp_ns < START for f in frames[-3:]} == {True} or jump_s == -2
    assert all(min(f.ages_ns.values()) >= 0 for f in frames)


def test_messages_are_matched_by_name_and_bad_ones_counted():
    aligner = Aligner(RIG)
    names = [*reversed(RIG.arm.joints), "finger"]
    position = [6.0, 5, 4, 3, 2, 1, 0, 99]
    good = joint_state(START, names, position, [0.0] * 8)
    nothing = (float("nan"), *position[1:])
    bad = [
        joint_state(START, names, nothing),
        joint_state(START, names, position[:5]),
        joint_state(START, names, position, [1.0]),
        joint_state(START, names[1:], position[1:]),
        joint_state(START, [*names[:-1], names[0]], position),
    ]
    for message in (*bad, good):
        aligner.receive(JOINT_STATE, message, START)
    aligner.receive(GRIPPER_STATE, joint_state(0, [RIG.gripper.state_joint], [0.7929]), START - 3)
    for camera in ("wrist", "left"):
        aligner.receive(camera, compressed(START - 2, np.zeros((180, 320, 3), np.uint8)), START)
    frame = aligner.frame_at(START)
    assert frame.joint_position.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert frame.gripper_position == 1.0
    assert aligner.counts[JOINT_STATE].invalid == 5
    assert aligner.counts[GRIPPER_STATE].unstamped == 1
    assert frame.ages_ns[GRIPPER_STATE] == 3


def test_wrong_images_are_named():
    aligner = Aligner(RIG)
    with pytest.raises(RobosteerError, match="found 'png', expected jpeg"):
        aligner.receive("left", compressed(START, np.zeros((9, 9, 3), np.uint8), "png"), START)
    for stream in PERIODS:
        aligner.push(stream, START, value_of(stream, 0))
    aligner.receive("left", compressed(START + 1, np.zeros((90, 320, 3), np.uint8)), START)
    with pytest.raises(RobosteerError, match=r"/left/zed_node.*found 320x90, expected 320x180"):
        aligner.frame_at(START + 1)
    with pytest.raises(RobosteerError, match="found 'nose'"):
        Aligner(RIG, cameras=["nose"])


def test_an_image_used_twice_is_decoded_once():
    aligner = Aligner(RIG)
    for stream in PERIODS:
        aligner.push(stream, START, value_of(stream, 0))
    first, second = aligner.frame_at(START), aligner.frame_at(START + 50 * MS)
    assert first.images["left"] is second.images["left"]
    assert not first.images["left"].flags.writeable


def test_threads_may_push_and_ask_at_the_same_time():
    rig = dataclasses.replace(RIG, arm=dataclasses.replace(RIG.arm, state_rate_hz=1000.0))
    aligner, problems, done = Aligner(rig), [], threading.Event()
    for stream in PERIODS:
        aligner.push(stream, START, value_of(stream, 0))

    def ask():
        try:
            while not done.is_set():
                frame = aligner.frame_at(START + 10**9)
                assert frame is not None
                assert frame.ages_ns[JOINT_STATE] >= 0
                for k in aligner.ready():
                    assert min(k.ages_ns.values()) >= 0
        except Exception as error:  # noqa: BLE001 - handed to the main thread
            problems.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    pushers = [
        threading.Thread(
            target=lambda s=s: [
                aligner.push(s, START + i * MS, ZERO if s == JOINT_STATE else GREY) for i in range(1, 900)
            ]
        )
        for s in (JOINT_STATE, "left", "wrist")
    ]
    for thread in pushers:
        thread.start()
    for thread in pushers:
        thread.join()
    done.set()
    asking.join()
    assert problems == []
    assert aligner.counts[JOINT_STATE].received == 900
