"""The markers of an episode.

Regressions pinned: the countdown's pre-roll is trained on; a marker on the wall clock is compared with stamps on
simulated time; an episode is not converted again after its markers changed; a wrong marker is passed over in silence.
"""

import json

import numpy as np
import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_training.convert import ConversionError, convert_bags
from robosteer_training.convert_episode import ConvertSettings
from robosteer_training.episodes import read_episode
from robosteer_training.marked_span import MarkedSpan

from .synthetic_bag import EPOCH_NS, MS, Script, bench_rig, messages, write_bag, write_episode

RIG = bench_rig()
MOVES_ALWAYS = Script(seconds=1.5, start_s=0.0, stop_s=1.5)
ALL = ConvertSettings(trim_idle=False)


@pytest.mark.parametrize("settings", [ConvertSettings(), ALL])
def test_frames_outside_the_markers_are_dropped(tmp_path, settings):
    start_ns, end_ns = EPOCH_NS + 500 * MS, EPOCH_NS + 1200 * MS
    whole = convert_bags(write_episode(tmp_path / "w", RIG, MOVES_ALWAYS), tmp_path / "whole", RIG, settings=settings)
    path = write_episode(tmp_path / "e", RIG, MOVES_ALWAYS, markers={"start_ns": start_ns, "end_ns": end_ns})
    data = convert_bags(path, tmp_path / "out", RIG, settings=settings)
    expected = (whole.stamp_ns >= start_ns) & (whole.stamp_ns < end_ns)
    assert 0 < expected.sum() < len(whole) - 10
    assert np.array_equal(data.stamp_ns, whole.stamp_ns[expected])
    assert np.array_equal(data.actions, whole.actions[expected])
    assert np.array_equal(data.images["wrist"], whole.images["wrist"][expected])


def test_markers_are_wall_clock_when_the_sensors_run_on_simulated_time(tmp_path):
    ahead_ns = 10**17  # wall clock - simulated time
    later = [(log_ns + ahead_ns, *rest) for log_ns, *rest in messages(RIG, MOVES_ALWAYS)]
    path = write_bag(tmp_path / "e", later)
    content = {"schema": "robosteer.episode/1", "instruction": "pick up red cube", "outcome": "success"}
    content["markers"] = {"start_ns": EPOCH_NS + ahead_ns + 500 * MS}
    (path / "episode.json").write_text(json.dumps(content))
    data = convert_bags(path, tmp_path / "out", RIG, settings=ALL)
    assert 490 * MS <= data.stamp_ns[0] - EPOCH_NS <= 500 * MS + 67 * MS


def test_other_markers_are_another_conversion(tmp_path):
    path = write_episode(tmp_path / "e", RIG, MOVES_ALWAYS)
    before = convert_bags(path, tmp_path / "out", RIG, settings=ALL)
    content = json.loads((path / "episode.json").read_text())
    (path / "episode.json").write_text(json.dumps(content | {"markers": {"start_ns": EPOCH_NS + 500 * MS}}))
    after = convert_bags(path, tmp_path / "out", RIG, settings=ALL)
    assert len(after) < len(before) - 5


def test_a_start_after_the_recording_is_an_error(tmp_path):
    path = write_episode(tmp_path / "e", RIG, MOVES_ALWAYS, markers={"start_ns": EPOCH_NS + 9000 * MS})
    with pytest.raises(ConversionError) as caught:
        convert_bags(path, tmp_path / "out", RIG)
    assert "found 0 frames between its markers" in caught.value.failures[0]


@pytest.mark.parametrize("markers", ["soon", {"start_ns": 1.5}, {"start_ns": True}, {"end_ns": "1"}])
def test_markers_that_are_none_are_an_error(tmp_path, markers):
    (tmp_path / "episode.json").write_text(json.dumps({"schema": "robosteer.episode/1", "markers": markers}))
    with pytest.raises(RobosteerError, match="found markers"):
        read_episode(tmp_path)


def test_a_state_before_the_marker_does_not_place_it():
    span = MarkedSpan(100, None)
    span.take_state(99, 98)
    assert not span.contains(np.array([0, 200])).any()
    span.take_state(101, 100)
    assert span.contains(np.array([99, 100, 200])).tolist() == [False, True, True]
