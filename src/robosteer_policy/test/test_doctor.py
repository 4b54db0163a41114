"""The doctor: every finding that is not ok says what to do, and a failed one forbids motion.

Regressions pinned: a graph without a guard was well because nothing complained; the watchdog was taken for a stranger;
a checkpoint of another rig was only a warning; version 1.10 was taken for older than 1.9; a shipped rig file let
commands hold four times as long as the docs say; two guards were one.
"""

import dataclasses
import json
import os

import pytest

from robosteer_model.checkpoint import save_checkpoint
from robosteer_policy import doctor, versions
from robosteer_policy.commands.doctor import main
from robosteer_policy.guard.proof import parse_requirements
from robosteer_rig.check import Row
from robosteer_rig.rig import load_rig

from .panda import RIG
from .tiny import tiny_checkpoint

RIG_HERE = load_rig(RIG)
NEEDS = parse_requirements(["/controller_manager:enforce_command_limits=true"])
WELL = doctor.GraphFacts(
    guard={"state": "armed", "reason": "obeying policy"},
    policy={"state": "ready", "reason": "ready"},
    writers=("guard", "watchdog"),
    readers=2,
    parameters={("/controller_manager", "enforce_command_limits"): True},
)


def failures(facts, hardware=True):
    found = doctor.graph(facts, NEEDS, hardware=hardware)
    assert all(bool(f.fix) == (f.verdict != "ok") for f in found), "a fix wherever there is something to do"
    return [f"{f.area} {f.what}" for f in found if f.verdict == "fail"]


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({}, []),
        ({"guard": None, "writers": ("watchdog",)}, ["guard alive"]),
        ({"writers": ("guard", "somebody", "watchdog")}, ["guard alone"]),
        ({"writers": ("guard", "guard", "watchdog")}, ["guard alone"]),
        ({"writers": ("guard",)}, ["controller watchdog"]),
        ({"readers": 1}, ["controller listens"]),
        ({"parameters": {}}, ["controller rate limiter"]),
        ({"policy": None}, []),
    ],
)
def test_what_forbids_motion_on_hardware(change, failed):
    assert failures(dataclasses.replace(WELL, **change)) == failed


def test_a_simulated_cell_needs_neither_watchdog_nor_limiter():
    assert failures(dataclasses.replace(WELL, writers=("guard",), readers=1, parameters={}), hardware=False) == []


def test_streams_that_are_well_take_one_line_and_others_say_what_is_expected():
    rows = [
        Row("wrist", "/w", "type", "ok", "x"),
        Row("wrist", "/w", "rate", "ok", "15.0 Hz"),
        Row("left", "/l", "rate", "bad", "3.0 Hz", "15 Hz"),
        Row("left", "/l", "pauses", "note", "up to 0.4 s", "0.067 s"),
    ]
    found = doctor.streams(rows)
    assert [(f.what, f.verdict, f.found) for f in found] == [
        ("wrist", "ok", "15.0 Hz"),
        ("left rate", "fail", "3.0 Hz"),
        ("left pauses", "warn", "up to 0.4 s"),
    ]


@pytest.mark.parametrize(
    ("version", "verdict"), [("2.0.0", "ok"), ("2.0", "ok"), ("1.10.3", "fail"), ("10.1.0", "ok"), ("", "warn")]
)
def test_versions_are_those_of_the_first_installation(tmp_path, version, verdict):
    for prefix, text in (("mine", version), ("system", "9.9.9" if version else "")):
        if text:
            share = tmp_path / prefix / "share/crisp_controllers"
            share.mkdir(parents=True)
            (share / "package.xml").write_text(f"<package><name>x</name><version>{text}</version></package>")
    path = os.pathsep.join(str(tmp_path / prefix) for prefix in ("none", "mine", "system"))
    (found,) = versions.findings({"AMENT_PREFIX_PATH": path}, [versions.Package("crisp_controllers", "2.0.0", "jumps")])
    assert (found.verdict, found.found) == (verdict, version or "not installed here")
    assert bool(found.fix) == (verdict != "ok")


def test_a_package_file_that_cannot_be_read_is_no_version(tmp_path):
    (tmp_path / "share/zed_wrapper").mkdir(parents=True)
    (tmp_path / "share/zed_wrapper/package.xml").write_text("<package><version>5.1")
    assert versions.installed("zed_wrapper", [str(tmp_path)]) == ""


@pytest.mark.parametrize("name", ["fr3_robotiq_zed", "panda_robotiq_zed"])
def test_the_shipped_rig_files_of_robots_leave_nothing_open(name):
    findings = doctor.rig_file(load_rig(RIG.with_name(f"{name}.yaml")))
    assert [f"{finding.what}: {finding.found}" for finding in findings if finding.verdict != "ok"] == []


def test_files_are_checked_without_ros(tmp_path, capsys):
    path = str(save_checkpoint(tmp_path / "tiny", tiny_checkpoint()))
    assert main([str(RIG), "--checkpoint", path, "--no-live", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert {"area": "checkpoint", "what": "contract", "verdict": "ok", "found": "fits the rig", "fix": ""} in found
    other = tmp_path / "other.yaml"
    other.write_text(RIG.read_text().replace("unit_rad_per_s: 3.0", "unit_rad_per_s: 1.0"))
    assert main([str(other), "--checkpoint", path, "--no-live"]) == 1
    assert "do not move" in capsys.readouterr().out
    assert main([str(RIG), "--checkpoint", str(tmp_path), "--no-live", "--json"]) == 1
