"""The seven packages as ROS 2 and pip see them.

Pins: a package.xml that catkin_pkg refuses; versions that differ between package.xml and setup.py; a config file that
is in the source tree but in no install; a Python folder without __init__.py (left out of wheels); an executable whose
module does not exist; a changelog without the current version.
"""

import ast
import runpy
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from unittest.mock import patch

import pytest
from catkin_pkg.package import parse_package

ROOT = Path(__file__).parents[3]
PACKAGES = sorted(path.parent for path in (ROOT / "src").glob("*/package.xml"))
IDS = [path.name for path in PACKAGES]
ROS_DEPENDENCIES = {"robosteer_bringup": {"launch", "launch_ros", "ament_index_python"}}


def setup_arguments(package: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """What setup.py passes to setuptools.setup."""
    monkeypatch.chdir(package)
    with patch("setuptools.setup") as setup:
        runpy.run_path(str(package / "setup.py"))
    return setup.call_args.kwargs


@pytest.mark.parametrize("package", PACKAGES, ids=IDS)
def test_package_xml_is_valid_and_agrees_with_setup(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    xml = parse_package(str(package), warnings=warnings)
    arguments = setup_arguments(package, monkeypatch)
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not warnings
    assert xml.package_format == 3
    assert [export.tagname for export in xml.exports] == ["build_type"]
    assert (xml.name, xml.version) == (arguments["name"], arguments["version"]) == (package.name, workspace["version"])
    assert xml.licenses == [arguments["license"]] == ["Apache-2.0"]
    assert not xml.buildtool_depends  # ament_python has no rosdep key.


@pytest.mark.parametrize("package", PACKAGES, ids=IDS)
def test_dependencies_on_each_other_stand_in_both_files(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    required = {name for name in setup_arguments(package, monkeypatch)["install_requires"] if name in IDS}
    declared = {depend.name for depend in parse_package(str(package)).exec_depends}
    assert required <= declared
    assert ROS_DEPENDENCIES.get(package.name, set()) <= declared


@pytest.mark.parametrize("package", PACKAGES, ids=IDS)
def test_share_holds_every_launch_config_and_checkpoint_file(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {
        f"{folder}/{Path(file).name}": file
        for folder, files in setup_arguments(package, monkeypatch)["data_files"]
        for file in files
    }
    share = f"share/{package.name}"
    wanted = {
        f"{share}/{path.relative_to(package)}": str(path.relative_to(package))
        for folder in ("launch", "config", "checkpoints")
        for path in (package / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted[f"{share}/package.xml"] = "package.xml"
    wanted[f"share/ament_index/resource_index/packages/{package.name}"] = f"resource/{package.name}"
    assert installed == wanted


@pytest.mark.parametrize("package", PACKAGES, ids=IDS)
def test_every_python_folder_is_packaged(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = set(setup_arguments(package, monkeypatch)["packages"])
    folders = {path.parent for path in (package / package.name).rglob("*.py")}
    assert {".".join(folder.relative_to(package).parts) for folder in folders} == packaged
    assert (package / package.name / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES, ids=IDS)
def test_entry_points_exist_and_are_installed(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = setup_arguments(package, monkeypatch)["entry_points"]
    declared = {(group, line.split("=")[0].strip()) for group, lines in groups.items() for line in lines}
    installed = {(entry.group, entry.name) for entry in distribution(package.name).entry_points}
    assert declared == installed, "run make setup"
    for entry in distribution(package.name).entry_points:
        module = package.joinpath(*entry.module.split("."))
        path = next(p for p in (module.with_suffix(".py"), module / "__init__.py") if p.is_file())
        names = {
            node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assert entry.attr in names, f"{entry.value} does not exist"


def test_no_two_packages_share_a_command() -> None:
    commands = [e.name for p in PACKAGES for e in distribution(p.name).entry_points if e.group == "robosteer.commands"]
    assert len(commands) == len(set(commands))


def test_license_and_changelog() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
