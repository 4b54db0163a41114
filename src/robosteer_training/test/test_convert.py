"""Frames and actions of converted recordings.

Regressions pinned: live and offline frames differ; point samples instead of interval means; a rate or unit that changes
what an action means without saying so; targets that were never recorded.
"""

import array
from types import SimpleNamespace

import numpy as np
import pytest

from robosteer_rig.align import Aligner
from robosteer_rig.bags import BagReader
from robosteer_rig.droid import observation, observation_from_row
from robosteer_training.convert import ConversionError, convert_bags
from robosteer_training.convert_episode import ConvertSettings

from .synthetic_bag import EPOCH_NS, MS, Script, bench_rig, changed, joint_state, picture, write_episode

RIG = bench_rig()


def as_rclpy(message):
    """The same message with the containers that rclpy uses: lists, array.array, nested objects."""
    fields = {}
    for name in message.__dataclass_fields__:
        if name == "__msgtype__":
            continue
        value = getattr(message, name)
        if isinstance(value, np.ndarray):
            value = array.array("B" if value.dtype == np.uint8 else "d", value.tobytes())
        elif hasattr(value, "__dataclass_fields__"):
            value = as_rclpy(value)
        fields[name] = value
    return SimpleNamespace(**fields)


def test_live_and_offline_frames_are_equal_bit_for_bit(tmp_path):
    path = write_episode(tmp_path / "e", RIG)
    data = convert_bags(path, tmp_path / "out", RIG, settings=ConvertSettings(trim_idle=False))
    aligner = Aligner(RIG)
    streams = {topic: name for name, (topic, _) in RIG.observation_topics().items()}
    live = []
    with BagReader(path) as bag:
        for topic, log_ns, message in bag.messages(list(streams)):
            aligner.receive(streams[topic], as_rclpy(message), log_ns)
            live += aligner.ready()
    live += aligner.flush()
    assert len(data) >= 20
    assert len(live) - len(data) in (0, 1)  # the last interval may reach beyond the recording
    for k, frame in enumerate(live[: len(data)]):
        assert frame.stamp_ns == data.stamp_ns[k]
        images = {name: stack[k] for name, stack in data.images.items()}
        offline = observation_from_row(images, data.state[k], data.rig, data.prompts[0])
        online = observation(frame, RIG, "pick up red cube")
        assert offline.keys() == online.keys()
        for key, value in online.items():
            assert np.array_equal(offline[key], value)
            assert getattr(offline[key], "dtype", None) == getattr(value, "dtype", None)
        assert np.array_equal(frame.joint_velocity.astype(np.float32), data.joint_velocity[k])


def test_frames_and_actions_are_what_happened(tmp_path):
    script = Script(seconds=1.5, velocity=0.6, start_s=0.3, stop_s=1.2)
    path = write_episode(tmp_path / "e", RIG, script)
    data = convert_bags(path, tmp_path / "out", RIG)
    moved = data.actions[:, 0].sum() * 3.0 / 15
    # The first frame is at 16 ms, the interval of the first and last kept frames holds rest and motion.
    assert moved == pytest.approx(0.6 * 0.9, abs=1e-6)
    assert data.actions[:, 0].max() == pytest.approx(0.2)
    assert (data.actions[:, 1:7] == 0).all()
    assert set(data.actions[:, 7]) == {0.0, 1.0}
    closed_from = data.stamp_ns[np.argmax(data.actions[:, 7])]
    assert 0 <= EPOCH_NS + 828 * MS - closed_from <= 67 * MS  # in the interval in which the command came
    for k, stamp in enumerate(data.stamp_ns):
        i = (stamp - EPOCH_NS) // (10 * MS)
        assert data.state[k, :7] == pytest.approx([0.1 * j + 0.001 * i for j in range(7)], abs=1e-6)
        left = (stamp - EPOCH_NS - 16 * MS) // (66 * MS)
        expected = picture(int(left) + 40)[:, 6:26]
        assert np.abs(data.images["left"][k].astype(int).mean() - expected.mean()) < 1
    assert data.state[:, 7] == pytest.approx(0.25)
    assert data.episodes[0].trimmed[0] > 0
    assert data.episodes[0].max_age_s["joint_state"] < 0.010


def test_other_rates_keep_the_unit(tmp_path):
    path = write_episode(tmp_path / "e", RIG)
    settings = ConvertSettings(rate_hz=6.0, cameras=("left",))
    data = convert_bags(path, tmp_path / "out", RIG, settings=settings)
    assert data.rate_hz == 6.0
    assert np.diff(data.stamp_ns) == pytest.approx(1e9 / 6, abs=1)
    assert data.actions[:, 0].sum() * 3.0 / 6 == pytest.approx(0.54, abs=1e-6)
    assert data.actions[:, 0].max() == pytest.approx(0.2)
    assert list(data.images) == ["left"]


def test_per_step_actions_say_so_wherever_they_go(tmp_path):
    """Pins: at 6 Hz the paper's u moves 0.2 rad per step, 1.2 rad/s; read as 3 rad/s the arm is 2.5 times too fast."""
    path = write_episode(tmp_path / "e", RIG)
    as_speed = convert_bags(path, tmp_path / "one", RIG, settings=ConvertSettings(rate_hz=6.0))
    as_step = convert_bags(path, tmp_path / "two", RIG, settings=ConvertSettings(rate_hz=6.0, action_unit="per_step"))
    assert (as_speed.rig.action.unit_rad_per_s, as_speed.rig.action.rate_hz) == (3.0, 6.0)
    assert (as_step.rig.action.unit_rad_per_s, as_step.rig.action.rate_hz) == (pytest.approx(1.2), 6.0)
    assert as_step.actions[:, :7] == pytest.approx(2.5 * as_speed.actions[:, :7], abs=1e-6)
    assert as_step.actions[:, 0].sum() * 0.2 == pytest.approx(0.54, abs=1e-6)


def with_positions(log, topic, kind, message):
    """Commands that carry the target, 0.05 rad ahead of where joint 1 is."""
    if topic == "/robosteer/teleop/command":
        t = (log - EPOCH_NS) / 1e9
        target = [0.1 * j + 0.1 * t + (0.05 if j == 0 else 0.0) for j in range(7)]
        message = joint_state(log, RIG.arm.joints, target, message.velocity)
    return log, topic, kind, message


def test_action_sources(tmp_path):
    path = changed(tmp_path / "e", with_positions)
    sources = {}
    for source in ("commanded", "measured", "target", "controller"):
        settings = ConvertSettings(actions=source, trim_idle=False)
        sources[source] = convert_bags(path, tmp_path / source, RIG, settings=settings)
    assert len({data.digest() for data in sources.values()}) == 4
    step = RIG.action.unit_rad_per_s / RIG.action.rate_hz
    measured = sources["measured"]
    assert measured.actions[:-1, :7] * step == pytest.approx(np.diff(measured.state[:, :7], axis=0), abs=1e-6)
    assert measured.episodes[0].replay["open_loop_max_m"] < 1e-5
    # 0.1 rad/s of motion within the interval and 0.05 rad of lead; the state's age adds a little.
    assert sources["target"].actions[5:, 0] * step == pytest.approx(0.05 + 0.1 / 15, abs=0.004)
    assert 0 < np.abs(sources["controller"].actions[5:, 0]).max() < np.abs(sources["target"].actions[5:, 0]).max()
    for data in sources.values():
        assert set(data.episodes[0].replay) == {
            f"{a}_{b}_m" for a in ("one_step", "open_loop") for b in ("median", "max")
        }


def test_targets_must_have_been_recorded(tmp_path):
    path = write_episode(tmp_path / "e", RIG)
    with pytest.raises(ConversionError, match=r"without a finite position for each of j1.*--actions commanded"):
        convert_bags(path, tmp_path / "out", RIG, settings=ConvertSettings(actions="target"))
