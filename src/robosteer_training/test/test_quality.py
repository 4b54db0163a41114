"""Quality of a dataset.

Regressions pinned: a gripper that closes when told to open; one dimension that hardly moves and becomes thousands when
normalised; pauses in the middle; a page that runs what a label says.
"""

import dataclasses
import json

import numpy as np
import pytest

from robosteer_training.commands import dataset as command
from robosteer_training.convert import convert_bags
from robosteer_training.quality.judge import judge
from robosteer_training.quality.measure import Limits, extremes, measure, pauses

from .synthetic_bag import Script, bench_rig, write_episode

RIG = bench_rig()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    place = tmp_path_factory.mktemp("quality")
    for i in range(2):
        write_episode(place / f"demos/{i}", RIG, Script(seconds=2.0, stop_s=1.7, seed=9 * i))
    label = json.loads((place / "demos/1/episode.json").read_text())
    (place / "demos/1/episode.json").write_text(json.dumps({**label, "instruction": "<script>alert(1)</script>"}))
    return convert_bags(place / "demos", place / "store")


def test_what_is_measured(data):
    report = measure(data)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    first = report["episodes"][0]
    assert first["streams"]["joint_state"]["rate_hz"] == pytest.approx(100, rel=0.1)
    assert first["streams"]["left"]["rate_hz"] == pytest.approx(15, rel=0.15)
    assert first["streams"]["left"]["max_age_s"] < 0.07
    assert report["gripper"]["changes"] == 2
    assert report["actions"]["clipped_share"] == 0
    assert report["joints"][0]["least_margin_rad"] == pytest.approx(3 - data.state[:, 0].max(), abs=1e-6)
    assert sum(report["actions"]["histogram"][0]) == len(data)
    errors, warnings = judge(report, Limits())
    assert not errors
    assert any("hardly move" in line for line in warnings)  # six joints stand still in this recording


def closing(data, direction):
    """The measured gripper follows its command (or does the opposite) one frame later."""
    state = data.state.copy()
    commanded = np.concatenate([data.actions[:1, 7], data.actions[:-1, 7]])
    state[:, 7] = commanded if direction > 0 else 1 - commanded
    return dataclasses.replace(data, state=state)


def test_polarity(data):
    good, bad = (measure(closing(data, sign)) for sign in (1, -1))
    assert (good["gripper"]["followed"], good["gripper"]["opposed"]) == (2, 0)
    assert not judge(good, Limits())[0]
    assert "exchange open_position" in judge(bad, Limits())[0][0]


def test_a_rare_spike_in_a_constant_dimension_is_a_hard_stop(data):
    report, still = measure(data), np.zeros((500, 8))
    still[3, 4] = 0.5
    report["normalised"]["actions"] = extremes(still, (*RIG.arm.joints, "gripper"))
    errors, _ = judge(report, Limits())
    assert len(errors) == 1
    assert "actions.j5: found a normalised value of 1e+06" in errors[0]


@pytest.mark.parametrize(
    ("idle", "count"),
    [("....mmm...", 0), ("mm......mm", 1), ("mm....mm", 0), ("mm......mm......m", 2), ("......", 0)],
)
def test_pauses_in_the_middle(idle, count):
    assert pauses(np.array([c == "." for c in idle])) == count


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda r: r["actions"].update(clipped_share=0.5), "50.0% of the frames have some |u| above 1"),
        (lambda r: r["episodes"][0].update(idle_share=0.6), "60% of the frames are idle"),
        (lambda r: r["episodes"][0].update(pauses=2), "2 pauses"),
        (lambda r: r["episodes"][0]["replay"].update(open_loop_max_m=0.2), "200 mm off"),
        (lambda r: r["episodes"][0]["streams"]["left"].update(missed=4), "left: 4 missed messages"),
        (lambda r: r["joints"][2].update(least_margin_rad=0.001), "j3 comes within 0.001 rad"),
        (lambda r: r["episodes"][0].update(stale_frames=40), "input that is too old"),
    ],
)
def test_warnings(data, change, found):
    report = measure(data)
    change(report)
    assert any(found in line for line in judge(report, Limits())[1])


def test_the_command(data, tmp_path, capsys):
    assert command.main(["report", str(data.path), "--out", str(tmp_path)]) == 0
    assert "0 errors" in capsys.readouterr().out
    page = (tmp_path / "quality.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<polyline") == 4
    assert "data:image/png;base64," in page
    assert json.loads((tmp_path / "quality.json").read_text())["schema"] == "robosteer.quality/1"
    arguments = ["report", str(data.path), "--out", str(tmp_path), "--max-normalised", "0.5", "--json"]
    assert command.main(arguments) == 1
    assert json.loads(capsys.readouterr().out)["errors"]
