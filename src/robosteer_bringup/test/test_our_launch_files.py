"""RoboSteer's own launch files.

Pins: a construct outside the launcher's subset in a file that nobody ran with just these arguments; an executable or a
parameter that its node does not have; a simulated stack that talks to the laboratory's network; hardware that starts
unasked; a stack that goes on after its guard has died; a policy on hardware that moves as soon as somebody arms.
"""

import ast
import os
from pathlib import Path

import pytest
import yaml

from robosteer_bringup.launcher import command
from robosteer_bringup.launcher.actions import DeclareLaunchArgument, OpaqueFunction
from robosteer_bringup.launcher.arguments import declared_arguments
from robosteer_bringup.launcher.checks import check_first
from robosteer_bringup.launcher.context import ProcessSpec
from robosteer_bringup.launcher.errors import LaunchError
from robosteer_bringup.launcher.importer import launch_api
from robosteer_bringup.launcher.include import include_file
from robosteer_bringup.launcher.loading import load_launch_file
from robosteer_bringup.launcher.plan import Plan, make_plan
from robosteer_bringup.launcher.resolve import console_scripts

SOURCE = Path(__file__).parents[2]
FILES = {path.name.split(".")[0]: path for path in sorted((SOURCE / "robosteer_bringup/launch").glob("*.launch.py"))}
REQUIRED = {"checkpoint": "checkpoints/nano", "sim": "true", "rig": "rig.yaml", "source": "teleop"}


def plan(name: str, scratch: Path, **arguments: str) -> Plan:
    environment = {**os.environ, "AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH") or str(_prefix())}
    with launch_api():
        return make_plan(include_file(FILES[name], arguments), environment, scratch)


def _prefix() -> Path:
    import sys

    return Path(sys.prefix)


def parameters(spec: ProcessSpec) -> dict:
    path = spec.command[spec.command.index("--params-file") + 1]
    return yaml.safe_load(Path(path).read_text())["/**"]["ros__parameters"]


def executables(plan: Plan) -> list[str]:
    return [spec.name.rsplit("-", 1)[0] for spec in plan.processes]


def combinations(name: str) -> list[dict[str, str]]:
    """Every choice of every own argument once, with the required arguments."""
    with launch_api():
        found = declared_arguments(include_file(FILES[name], {}), {**os.environ, "AMENT_PREFIX_PATH": str(_prefix())})
    choices = {a.name: a.choices for a in found if a.choices and a.name not in ("sim", "mode")}
    given = {a.name: REQUIRED[a.name] for a in found if a.name in REQUIRED and a.default_value is None}
    if "sim" in {a.name for a in found}:
        given["sim"] = "true"
    varied = [given | {name: value} for name, values in choices.items() for value in values]
    return [given, *varied]


CASES = [(name, arguments) for name in FILES if name != "drivers" for arguments in combinations(name)]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_every_file_is_inside_the_subset_with_every_choice(name: str, arguments: dict, tmp_path: Path) -> None:
    made = plan(name, tmp_path, **arguments)
    assert made.shutdown_reason is None
    assert "cell" in executables(made)
    for spec in made.processes:
        assert spec.environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] in (
            "LOCALHOST",
            os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE"),
        )
        assert spec.output == "screen"


def test_the_three_stacks_have_these_processes(tmp_path: Path) -> None:
    assert executables(plan("simulate", tmp_path)) == ["cell"]
    assert executables(plan("record", tmp_path, sim="true")) == ["cell", "guard", "recorder", "teleop"]
    assert executables(plan("record", tmp_path, sim="true", operator="none")) == ["cell", "guard", "recorder"]
    assert executables(plan("record", tmp_path, sim="true", operator="scripted"))[-1] == "scripted_operator"
    deploy = plan("deploy", tmp_path, sim="true", checkpoint="runs/first", trials="true", trial_cells="[3, 5]")
    assert executables(deploy) == ["cell", "guard", "policy", "trial_runner"]
    assert parameters(deploy.processes[1])["source"] == "policy"
    assert parameters(deploy.processes[2])["checkpoint"] == "runs/first"
    assert parameters(deploy.processes[3])["grid_cells"] == [3, 5]
    recorded = plan("deploy", tmp_path, sim="true", checkpoint="x", record="true", out="runs/mine")
    assert executables(recorded) == ["cell", "guard", "policy", "recorder", "run_recorder"]
    assert parameters(recorded.processes[3])["directory"] == "runs/mine"
    assert "/robosteer/policy/chunk_record:std_msgs/msg/String" in parameters(recorded.processes[3])["extra_topics"]


@pytest.mark.parametrize("name", ["deploy", "record", "simulate"])
def test_ros2_launch_checks_before_anything_else_is_done(name: str) -> None:
    with launch_api():
        description = load_launch_file(FILES[name])
    first = next(entity for entity in description.entities if not isinstance(entity, DeclareLaunchArgument))
    assert isinstance(first, OpaqueFunction)
    assert (first.function, first.args) == (check_first, (str(FILES[name]),))


def test_text_stays_text_and_numbers_stay_numbers(tmp_path: Path) -> None:
    cell, _, recorder, teleop, operator = plan(
        "record", tmp_path, sim="true", operator="scripted", task="7", out="2026", episodes="3", first_seed="5"
    ).processes
    assert (parameters(cell)["task"], parameters(cell)["seed"]) == ("7", 5)
    assert (parameters(recorder)["instruction"], parameters(recorder)["directory"]) == ("7", "2026")
    assert (parameters(operator)["episodes"], parameters(operator)["first_seed"]) == (3, 5)
    assert parameters(operator)["connection_file"] == parameters(teleop)["connection_file"] == "2026/.teleop.json"


def test_a_person_is_aligned_counted_down_and_met_with_a_certificate(tmp_path: Path) -> None:
    person, script = (plan("record", tmp_path, sim="true", operator=who).processes for who in ("quest", "scripted"))
    recorder, teleop = parameters(person[2]), parameters(person[3])
    assert (recorder["countdown_s"], recorder["confirm_degraded"]) == (3.0, True)
    assert (teleop["align_first"], teleop["port"], teleop["limits"]) == (True, 8443, "teach")
    recorder, teleop = parameters(script[2]), parameters(script[3])
    assert (recorder["countdown_s"], recorder["confirm_degraded"]) == (0.0, False)
    assert (teleop["align_first"], teleop["port"], teleop["loopback_port"]) == (False, -1, 0)


def test_simulated_time_reaches_every_node(tmp_path: Path) -> None:
    cell, *others = plan("record", tmp_path, sim="true", operator="scripted", publish_clock="true").processes
    assert parameters(cell)["publish_clock"] is True
    others += plan("deploy", tmp_path, sim="true", checkpoint="x", homing="true", publish_clock="true").processes[1:]
    assert "homing" in [spec.name.rsplit("-", 1)[0] for spec in others]
    assert all(parameters(spec)["use_sim_time"] is True for spec in others)


def test_the_guard_arms_itself_and_the_policy_enables_itself_in_simulation_only(tmp_path: Path) -> None:
    simulated = plan("deploy", tmp_path, sim="true", checkpoint="x", auto_enable="true")
    real = plan("deploy", tmp_path, sim="false", checkpoint="x", drivers="false")
    assert [parameters(p.processes[1])["auto_arm"] for p in (simulated, real)] == [True, False]
    assert [parameters(p.processes[2])["auto_enable"] for p in (simulated, real)] == [True, False]
    with pytest.raises(LaunchError, match="auto_enable: found 'true', expected one of false"):
        plan("deploy", tmp_path, sim="false", checkpoint="x", auto_enable="true", drivers="false")
    assert executables(real) == ["watchdog", "guard", "policy"]
    assert parameters(real.processes[1])["rig"].endswith("config/rigs/fr3_robotiq_zed.yaml")
    assert "ROS_AUTOMATIC_DISCOVERY_RANGE" not in real.processes[1].environment.keys() - os.environ.keys()


def test_a_velocity_controller_on_hardware_needs_a_watchdog_and_a_proved_limiter(tmp_path: Path) -> None:
    def guard(**arguments: str) -> dict:
        made = plan("deploy", tmp_path, checkpoint="x", drivers="false", **arguments)
        return parameters(next(spec for spec in made.processes if spec.name.startswith("guard")))

    velocity, impedance, simulated = guard(sim="false"), guard(sim="false", mode="joint_impedance"), guard(sim="true")
    assert velocity["limiter_proof"] == "/controller_manager:enforce_command_limits=true"
    assert velocity["require_watchdog"] is True
    for lenient in (impedance, simulated):
        assert (lenient["limiter_proof"], lenient["require_watchdog"]) == ("", False)
    with pytest.raises(LaunchError, match="mode: found 'joint_impedance', expected one of joint_velocity"):
        guard(sim="true", mode="joint_impedance")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "franka_bringup: found in none of .* need a ROS 2 installation"),
        ({"operator": "scripted"}, "operator: found 'scripted', expected one of quest, none"),
    ],
)
def test_hardware_starts_only_when_asked_and_possible(arguments: dict, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=complaint):
        plan("record", tmp_path, sim="false", **arguments)


def test_every_parameter_is_one_that_the_node_declares(tmp_path: Path) -> None:
    """A parameter that a node does not declare is ignored by ROS without a word."""
    specs = plan("record", tmp_path, sim="true", operator="scripted").processes
    specs += plan("deploy", tmp_path, sim="true", checkpoint="x", trials="true").processes
    for spec in specs:
        *_, package, executable = spec.command[: spec.command.index("--ros-args")]
        module = console_scripts(package)[executable].module
        nodes = SOURCE / package / package / "nodes"
        assert module.startswith(f"{package}.nodes."), f"{module}: ROS belongs into {package}.nodes"
        texts = _string_constants(nodes)
        missing = [name for name in parameters(spec) if name not in texts | {"use_sim_time"}]
        assert not missing, f"{package} {executable} does not declare {missing}"


def _string_constants(folder: Path) -> set[str]:
    trees = [ast.parse(path.read_text()) for path in folder.glob("*.py")]
    constants = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return {value for value in constants if isinstance(value, str)}


def test_the_stack_ends_when_its_guard_ends(bench) -> None:
    """End to end over the real record.launch.py, with shell scripts for the nodes."""
    stay = "trap 'exit 0' INT; : > $ROS_LOG_DIR/$(basename $0); while :; do sleep 0.02; done"
    bench.program("cell", stay, package="robosteer_sim")
    bench.program("recorder", stay, package="robosteer_teleop")
    wait = "while [ ! -e $ROS_LOG_DIR/cell -o ! -e $ROS_LOG_DIR/recorder ]; do sleep 0.02; done"
    bench.program("guard", f"{wait}; echo guard gone >&2; exit 1", package="robosteer_policy")
    code = command.main(["--builtin", str(FILES["record"]), "sim:=true"])
    shown = bench.capsys.readouterr().out
    assert code == 1
    assert "[guard-2] guard gone" in shown
    assert "[recorder-3]: process has finished cleanly" in shown
    assert "[cell-1]: process has finished cleanly" in shown
