"""Pins: the demo that rots.

The whole loop runs here as a user runs it, only shorter: record, steer, compare, deploy, through real DDS, real bags
and the committed base policy. Also: a failing stage that is reported as success, and an old directory that is deleted
by mistake.
"""

import json
import os
import subprocess
import sys

import pytest

from robosteer_bringup.demo.command import main
from robosteer_bringup.demo.process import robosteer_command, ros_environment, run_stage
from robosteer_bringup.demo.stages import read_result
from robosteer_rig.errors import RobosteerError


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_quick_demo_teaches_steers_and_deploys(tmp_path):
    out = tmp_path / "demo"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment.pop("ROS_DOMAIN_ID", None)
    done = subprocess.run(
        robosteer_command("demo", "--quick", "--out", str(out)),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    episodes = sorted(p.name for p in (out / "demos").iterdir() if (p / "episode.json").exists())
    assert len(episodes) == 3
    steer = json.loads((out / "steered" / "steer.json").read_text())
    assert steer["dataset"]["episodes"] == 3
    assert steer["loss"]["train_last"] < steer["loss"]["train_first"]
    assert steer["loss"]["heldout_after"] != steer["loss"]["heldout_before"]
    assert (out / "steered" / "checkpoint" / "params").is_dir()
    assert (out / "steered" / "checkpoint" / "robosteer.json").is_file()
    assert "<html" in (out / "steered" / "report.html").read_text()
    base, steered = (read_result(out / f"evaluation_{name}.json") for name in ("base", "steered"))
    assert [t["scene"] for t in base["results"]] == [t["scene"] for t in steered["results"]]
    trials = read_result(out / "deploy" / "trials.json")
    assert trials["trials"][0]["commands"]["count"] > 20
    assert (out / "deploy" / "trials.gif").stat().st_size > 0
    for word in ("zero-shot", "steered", "heads", "held-out loss", "report"):
        assert word in done.stdout


def test_a_failing_stage_is_an_error_that_names_the_log(tmp_path):
    log = tmp_path / "stage.log"
    command = [sys.executable, "-c", "print('last words'); raise SystemExit(3)", "a", "b", "c"]
    with pytest.raises(RobosteerError, match=r"exit code 3.*stage\.log"):
        run_stage(command, log, dict(os.environ), show=lambda line: None)
    assert log.read_text() == "last words\n"


def test_a_directory_that_no_demo_made_is_not_deleted(tmp_path):
    precious = tmp_path / "thesis.tex"
    precious.write_text("do not delete")
    with pytest.raises(RobosteerError, match="no demo made"):
        main(["--out", str(tmp_path)])
    assert precious.exists()


def test_a_users_ros_domain_is_kept_and_otherwise_chosen_in_range(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    assert ros_environment(tmp_path)["ROS_DOMAIN_ID"] == "7"
    monkeypatch.delenv("ROS_DOMAIN_ID")
    assert 1 <= int(ros_environment(tmp_path)["ROS_DOMAIN_ID"]) <= 101


def test_a_stage_without_a_result_is_named(tmp_path):
    with pytest.raises(RobosteerError, match=r"nothing\.json"):
        read_result(tmp_path / "nothing.json")
