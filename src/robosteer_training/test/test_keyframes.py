"""Choice of frames.

Regressions pinned: a choice that converts everything again; chunks that skip over frames that were not chosen; stops
counted frame after frame; the gripper's change missed.
"""

import json

import numpy as np
import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_training.convert import Summary, convert_bags
from robosteer_training.dataset import load_dataset
from robosteer_training.keyframes import Selection, roboprompt_keyframes, select_frames

from .synthetic_bag import bench_rig, write_episode


def speeds(text):
    """One frame per character: m moves, . is at rest."""
    return np.array([[0.5 if c == "m" else 0.05] * 7 for c in text])


@pytest.mark.parametrize(
    ("motion", "gripper", "expected"),
    [
        ("mmmmmmmm", "00000000", [7]),
        ("mmmm....", "00000000", [4, 7]),  # one stop, then four blocked frames
        ("mmm..........m", "00000000000000", [3, 8, 13]),  # a long stop counts again after the block
        ("mmmmmmmmmm", "0001111100", [3, 8, 9]),  # changes at 3 and 8; the last
        ("mmm...mmmmmm", "000011111111", [4, 11]),  # at rest while the gripper moves is no stop
        ("mmmmmmmm", "00000011", [7]),  # the change at 6 lies right before the last
    ],
)
def test_roboprompt_rule(motion, gripper, expected):
    closed = np.array([c == "1" for c in gripper])
    if gripper == "0001111100":
        expected = [3, 9]  # 8 lies right before the last and is dropped
    assert roboprompt_keyframes(closed, speeds(motion)) == expected


def test_modes_and_idle_frames():
    actions = np.zeros((10, 8))
    actions[2:, 0] = 0.3
    velocity = speeds("mmmmmmmmmm")
    pick = lambda **choice: np.flatnonzero(select_frames(actions, velocity, Selection(**choice))).tolist()  # noqa: E731
    assert pick() == list(range(10))
    assert pick(keyframes="stride", stride=4) == [0, 4, 8]
    assert pick(keyframes="roboprompt") == [9]
    assert pick(keyframes="union", stride=4) == [0, 4, 8, 9]
    assert pick(skip_idle=True) == list(range(2, 10))
    for wrong in ({"keyframes": "some"}, {"stride": 0}):
        with pytest.raises(RobosteerError, match="expected"):
            Selection(**wrong)


def test_a_selection_is_a_view_of_the_dataset(tmp_path):
    for i in range(2):
        write_episode(tmp_path / "demos" / str(i), bench_rig(), outcome="success", custom={"i": str(i)})
    everything = convert_bags(tmp_path / "demos", tmp_path / "out")
    summary = Summary()
    selection = Selection(keyframes="stride", stride=5)
    some = convert_bags(tmp_path / "demos", tmp_path / "out", selection=selection, summary=summary)
    assert (summary.converted, summary.reused) == (0, 2)
    assert len(some) == len(everything)
    for episode in range(2):
        assert np.flatnonzero(some.selected[some.rows(episode)]).tolist() == list(range(0, len(some) // 2, 5))
    assert some.digest() != everything.digest()
    assert np.array_equal(some.usable, some.selected & ~some.stale)
    index = json.loads((tmp_path / "out" / "dataset.json").read_text())
    del index["selection"]  # as older stores
    (tmp_path / "out" / "dataset.json").write_text(json.dumps(index))
    assert load_dataset(tmp_path / "out").selected.all()
    index["selection"] = {"keyframes": "few"}
    (tmp_path / "out" / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(RobosteerError, match=r"dataset\.json"):
        load_dataset(tmp_path / "out")
