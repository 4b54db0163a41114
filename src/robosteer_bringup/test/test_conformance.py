"""Our launch files under the real launch and under ours: the same processes, command lines, parameters, environment.

Pins: any drift of the built-in launcher from `ros2 launch`; processes that are started, load and die one by one because
an argument is wrong. Skipped where launch_ros is not installed; there it is the
test that matters, since the built-in launcher is then never used by a user.
"""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.skipif(find_spec("launch_ros") is None, reason="needs ROS 2's launch and launch_ros")

LAUNCH = Path(__file__).parents[1] / "launch"
SIMULATED = LAUNCH.parent / "config/rigs/sim_panda.yaml"
NANO = LAUNCH.parents[1] / "robosteer_training/checkpoints/nano"
# Writes its command line down, with parameter files in full, then waits for Ctrl-C.
DUMP = """
trap 'exit 0' INT
{
echo "range: $ROS_AUTOMATIC_DISCOVERY_RANGE"
echo "words:"
for word in "$@"; do
  case "$word" in */launch_params_*) echo "- |"; sed 's/^/    /' "$word";; *) printf -- "- '%s'\\n" "$word";; esac
done
} > "$DUMP/$(basename $0).part"
mv "$DUMP/$(basename $0).part" "$DUMP/$(basename $0)"
while :; do sleep 0.02; done"""
REAL = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
arguments = [tuple(word.split(":=", 1)) for word in sys.argv[2:]]
service = LaunchService(argv=sys.argv[2:])
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(sys.argv[1], launch_arguments=arguments)])
)
sys.exit(service.run())
"""
CELL = {"cell", "guard"}
TRIALS = ["sim:=true", "checkpoint:=a b", "trials:=true", "trial_cells:=[1, 2]"]
SCRIPTED = CELL | {"recorder", "teleop", "scripted_operator"}
CASES = [
    ("simulate", [], {"cell"}),
    ("simulate", ["seed:=3", "variation:=form", "publish_clock:=true"], {"cell"}),
    ("record", ["sim:=true"], CELL | {"recorder", "teleop"}),
    ("record", ["sim:=true", "operator:=scripted", "episodes:=2", "out:=5"], SCRIPTED),
    ("deploy", ["sim:=true", "checkpoint:=a b", "auto_enable:=true"], CELL | {"policy"}),
    ("deploy", TRIALS, CELL | {"policy", "trial_runner"}),
    ("deploy", ["checkpoint:=a b", "drivers:=false", f"rig:={SIMULATED}"], {"watchdog", "guard", "policy"}),
]
PROGRAMS = {
    "robosteer_sim": ("cell", "scripted_operator", "trial_runner"),
    "robosteer_policy": ("guard", "policy", "watchdog"),
    "robosteer_teleop": ("recorder", "teleop"),
}


def dumps(command: list[str], directory: Path, expected: set[str]) -> tuple[dict[str, dict], int]:
    """Run a launch until every expected process has dumped, then Ctrl-C; return the dumps and the exit code."""
    directory.mkdir()
    environment = {**os.environ, "DUMP": str(directory)}
    screen = directory.with_suffix(".txt")
    with screen.open("w") as file:
        launch = subprocess.Popen(
            command, env=environment, cwd=directory.parent, start_new_session=True, stdout=file, stderr=file
        )
    deadline = time.monotonic() + 60.0
    while {path.name for path in directory.iterdir()} != expected:
        assert launch.poll() is None, screen.read_text()
        assert time.monotonic() < deadline, f"found {sorted(p.name for p in directory.iterdir())}"
        time.sleep(0.05)
    os.killpg(launch.pid, signal.SIGINT)
    code = launch.wait(timeout=60)
    return {path.name: normalised(yaml.safe_load(path.read_text())) for path in directory.iterdir()}, code


def normalised(dump: dict) -> dict:
    """Parameter files as data: the order and style of their YAML mean nothing."""
    words = [_as_data(word) if isinstance(word, str) and "ros__parameters" in word else word for word in dump["words"]]
    return {**dump, "words": words}


def _as_data(text: str) -> dict:
    return yaml.safe_load(text.replace("!!python/tuple", ""))


def install(bench) -> None:
    """A program in place of every node, and a checkpoint whose path has a space."""
    for package, programs in PROGRAMS.items():
        for program in programs:
            bench.program(program, DUMP, package=package)
    (bench.root / "a b").symlink_to(NANO)


@pytest.mark.parametrize(("name", "words", "expected"), CASES, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(CASES)])
def test_same_processes_as_the_real_launch(bench, name: str, words: list[str], expected: set[str]) -> None:
    install(bench)
    path = str(LAUNCH / f"{name}.launch.py")
    ours = [sys.executable, "-m", "robosteer_bringup.cli", "launch", "--builtin", path, *words]
    assert dumps(ours, bench.root / "ours", expected) == dumps(
        [sys.executable, "-c", REAL, path, *words], bench.root / "real", expected
    )


@pytest.mark.parametrize(
    ("name", "words", "complaint"),
    [
        ("record", ["sim:=true", "operator:=scripted", "task:=juggle"], "cell: task: found 'juggle'"),
        ("deploy", ["checkpoint:=nothing"], "policy: checkpoint: found nothing at nothing"),
        ("simulate", ["grid_cell:=40"], "cell: grid_cell: found 40, expected 0 ... 39"),
    ],
)
def test_the_real_launch_starts_nothing_that_cannot_work(bench, name: str, words: list[str], complaint: str) -> None:
    install(bench)
    (bench.root / "dumps").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", REAL, str(LAUNCH / f"{name}.launch.py"), *words],
        env={**os.environ, "DUMP": str(bench.root / "dumps")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert complaint in done.stdout
    assert "process started" not in done.stdout + done.stderr
    assert list((bench.root / "dumps").iterdir()) == []
