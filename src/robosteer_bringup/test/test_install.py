"""What a user really installs: by colcon into an ament workspace, by pip as a wheel.

Pins: setuptools >= 80 refusing `script_dir` (and colcon needing it); executables outside lib/<package>, where
`ros2 run` does not look; config files in subfolders that the install flattens or forgets; a launcher that works from
the source tree only.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).parents[2]
PACKAGES = ("robosteer_rig", "robosteer_bringup")
COLCON = Path(sys.executable).parent / "colcon"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A copy of the packages: builds must not touch the source tree."""
    for package in PACKAGES:
        ignore = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", "test")
        shutil.copytree(SOURCE / package, tmp_path / "src" / package, ignore=ignore)
    return tmp_path


def share_files(package: str) -> set[str]:
    """Files that must stand below share/<package>."""
    root = SOURCE / package
    files = [
        path for folder in ("launch", "config", "checkpoints") for path in (root / folder).rglob("*") if path.is_file()
    ]
    return {str(path.relative_to(root)) for path in files if "__pycache__" not in path.parts} | {"package.xml"}


def run(command: list[str], cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("options", [[], ["--symlink-install"]], ids=["copy", "symlink"])
def test_colcon_install_is_an_ament_prefix(workspace: Path, options: list[str]) -> None:
    run(
        [str(COLCON), "build", *options, "--packages-select", *PACKAGES, "--event-handlers", "console_direct+"],
        workspace,
    )
    for package in PACKAGES:
        prefix = workspace / "install" / package
        share = prefix / "share" / package
        assert (prefix / "share/ament_index/resource_index/packages" / package).is_file()
        assert {name for name in share_files(package) if not (share / name).is_file()} == set()
    prefixes = [str(workspace / "install" / package) for package in PACKAGES]
    program = workspace / "install/robosteer_bringup/lib/robosteer_bringup/robosteer"
    assert os.access(program, os.X_OK)
    # The installed command runs its installed modules, finds its installed launch files and its lib/ directory.
    # With --symlink-install the modules are links below build/, which colcon's setup files put on the path.
    modules = (
        (workspace / "build").glob("*") if options else (workspace / "install").glob("*/lib/python3*/site-packages")
    )
    here = {
        "AMENT_PREFIX_PATH": os.pathsep.join([*prefixes, sys.prefix]),
        "PYTHONPATH": os.pathsep.join(str(path) for path in modules),
    }
    where = run([sys.executable, "-c", "import robosteer_bringup as r; print(r.__file__)"], workspace, **here)
    assert where.startswith(str(workspace))
    shown = run(
        [str(program), "launch", "--builtin", "--show-args", "robosteer_bringup", "record.launch.py"], workspace, **here
    )
    assert "operator:" in shown
    version = run([str(program), "run", "robosteer_bringup", "robosteer", "--version"], workspace, **here)
    assert version.startswith("robosteer ")


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_holds_share_and_index(workspace: Path, package: str) -> None:
    build = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    name = run([sys.executable, "-c", build, str(workspace)], workspace / "src" / package).split()[-1]
    names = zipfile.ZipFile(workspace / name).namelist()
    data = f"{name.rsplit('-py3', 1)[0]}.data/data/share"
    assert f"{data}/ament_index/resource_index/packages/{package}" in names
    assert {f for f in share_files(package) if f"{data}/{package}/{f}" not in names} == set()
    assert f"{package}/py.typed" in names
    assert not [entry for entry in names if entry.split("/")[0] in ("test", "tests")]
