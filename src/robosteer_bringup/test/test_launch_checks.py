"""What is wrong with a stack's arguments, found before any of its processes is started.

Pins: a cell, a guard and a policy that start, load for seconds and die because a path, a task or a rig was wrong; a
complaint that is one line among many of other processes; a check under a name that no executable has, so that it is
never asked; a help text that prints the launch file's own objects.
"""

import os
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest

from robosteer_bringup import cli
from robosteer_bringup.launcher.checks import GROUP, check_first, parameters
from robosteer_bringup.launcher.errors import LaunchError
from robosteer_bringup.launcher.resolve import console_scripts

SOURCE = Path(__file__).parents[2]
NANO = f"checkpoint:={SOURCE / 'robosteer_training/checkpoints/nano'}"
HARDWARE_RIG = f"rig:={SOURCE / 'robosteer_bringup/config/rigs/fr3_robotiq_zed.yaml'}"
CASES = {
    "simulate task:=juggle": "cell: task: found 'juggle', expected one of ['pick up blue cube'",
    "simulate grid_cell:=40": "cell: grid_cell: found 40, expected 0 ... 39",
    "simulate variation:=fog": "variation: found 'fog', expected one of '', lighting, form",
    f"simulate {HARDWARE_RIG}": "cell: rig: found arm.joints ['fr3_joint1'",
    "simulate rig:=nothing.yaml": "cell: rig nothing.yaml: found no such file, expected a rig file",
    "record sim:=true operator:=scripted task:=juggle": "task: found 'juggle', expected one of",
    "record sim:=true operator:=scripted episodes:=0": "scripted_operator: episodes: found 0, expected at least 1",
    "record sim:=true out:=file": "recorder: directory: found a file at /",
    "record drivers:=false output:=cartesian": "teleop: output: found cartesian, whose targets no guard checks",
    "record sim:=true unguarded:=false output:=cartesian": "teleop: output: found cartesian, whose targets no guard",
    "record sim:=true limits:=fast": "limits: found 'fast', expected one of teach, normal, ceiling",
    "record sim:=true serials:=nose=1": "recorder: serials: found 'nose=1', expected DEVICE=SERIAL with one of arm",
    "record sim:=true calibration:=nothing": "recorder: calibration nothing: found No such file",
    "deploy sim:=true checkpoint:=nothing": "policy: checkpoint: found nothing at nothing, expected a checkpoint",
    f"deploy sim:=true {NANO} server:=ws://here": "policy: checkpoint, server: found both, expected one of them",
    "record sim:=true rig:=": "cell: rig: found '', expected the path of a rig file",
    f"deploy sim:=true {NANO} instruction:=juggle": "cell: task: found 'juggle'",
    f"deploy {NANO} drivers:=false": "policy: checkpoint",
    f"deploy sim:=true {NANO} preset_dir:=nothing": "policy: preset_dir nothing: found no *.yaml",
    f"deploy sim:=true {NANO} attention_heads:=x": "policy: attention_heads",
    f"deploy sim:=true {NANO} cluster_overlay:=slow": "policy: cluster_overlay: found 'slow', expected a preset",
    f"deploy sim:=true {NANO} trials:=true trial_cells:=[4,99]": "trial_runner: grid_cell: found 99",
    f"deploy sim:=true {NANO} trials:=true trial_out:=file/x.json": "trial_runner: out: found /",
}


@pytest.mark.parametrize("line", CASES)
def test_what_is_wrong_is_one_line_before_anything_starts(line: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    (tmp_path / "file").touch()
    name, *words = line.split()
    assert cli.main([name, "--builtin", *words]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"robosteer {name}: ")
    assert CASES[line] in shown.err
    assert shown.err.count("\n") == 1
    assert (shown.out, [path.name for path in tmp_path.iterdir()]) == ("", ["file"])


def test_drivers_are_not_read_and_foreign_settings_do_no_harm(monkeypatch) -> None:
    """As under `ros2 launch` on hardware, whose context also holds what is no text."""
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    given = {"checkpoint": "nothing", "drivers": "true", "ros_params": [("use_sim_time", True)]}
    context = SimpleNamespace(launch_configurations=given, environment=dict(os.environ))
    with pytest.raises(LaunchError, match="policy: checkpoint: found nothing at nothing"):
        check_first(context, str(SOURCE / "robosteer_bringup/launch/deploy.launch.py"), drivers="false")


@pytest.mark.parametrize("given", [{"sim": "true"}, {"unguarded": "true"}])
def test_poses_that_no_guard_checks_are_for_the_simulated_cell_and_for_who_accepts_them(given, tmp_path) -> None:
    arguments = {"output": "cartesian", "out": str(tmp_path), **given}
    context = SimpleNamespace(launch_configurations=arguments, environment=dict(os.environ))
    check_first(context, str(SOURCE / "robosteer_bringup/launch/record.launch.py"), drivers="false")
    del arguments[next(iter(given))]
    with pytest.raises(LaunchError, match="teleop: output: found cartesian, whose targets no guard checks"):
        check_first(context, str(SOURCE / "robosteer_bringup/launch/record.launch.py"), drivers="false")


def test_every_check_belongs_to_an_executable_of_its_package() -> None:
    entries = entry_points(group=GROUP)
    assert {"cell", "guard", "policy", "recorder", "teleop"} <= {entry.name for entry in entries}
    for entry in entries:
        assert entry.name in console_scripts(entry.dist.name), entry
        assert callable(entry.load())


def test_a_check_sees_the_parameters_that_the_node_will_see(bench) -> None:
    (spec,) = bench.plan(
        """Node(package="demo", executable="node", parameters=[{"number": 3, "text": "3"},
        {"number": ParameterValue("4", value_type=int)}])"""
    ).processes
    assert (spec.node, parameters(spec)) == (("demo", "node"), {"number": 4, "text": "3"})


@pytest.mark.parametrize("name", ["simulate", "record", "deploy"])
def test_help_is_in_the_words_that_a_user_types(name: str, capsys) -> None:
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: robosteer {name} [-h]")
    assert "Substitution" not in shown
    assert "FindPackageShare" not in shown
    assert cli.main([name, "--builtin", "--show-args"]) == 0
    assert shown.endswith(capsys.readouterr().out)
