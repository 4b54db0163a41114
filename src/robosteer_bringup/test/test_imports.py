"""Who may import whom.

Pins: a package that reaches into another's inside (training into policy, model into rig); ROS in code that must run
and be tested without ROS; torch, lerobot, openpi or a pickle reader in the core.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2]
PACKAGES = sorted(path.name for path in SOURCE.glob("robosteer_*"))
ARROWS = {
    "robosteer_rig": set(),
    "robosteer_model": set(),
    "robosteer_training": {"robosteer_model", "robosteer_rig"},
    "robosteer_policy": {"robosteer_model", "robosteer_rig"},
    "robosteer_teleop": {"robosteer_rig"},
    "robosteer_sim": {"robosteer_rig"},
    "robosteer_bringup": {"robosteer_rig"},
}
ROS = {
    "rclpy",
    "launch",
    "launch_ros",
    "std_srvs",
    "rcl_interfaces",
    "builtin_interfaces",
    "ament_index_python",
    "rpyutils",
}
FOREIGN = {"torch", "lerobot", "openpi", "openpi_client", "tensorflow", "transformers", "cv2", "dill", "cloudpickle"}


def imported_roots(path: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level name of every import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full name"
            yield node.lineno, (node.module or "").split(".")[0]


def sources(package: str) -> list[Path]:
    return sorted((SOURCE / package / package).rglob("*.py"))


def is_ros(name: str) -> bool:
    return name in ROS or name.endswith("_msgs") or name.startswith("rosidl")


def test_the_arrows_name_every_package() -> None:
    assert set(ARROWS) == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_their_arrows_allow(package: str) -> None:
    allowed = ARROWS[package] | {package}
    wrong = [
        f"{path.relative_to(SOURCE)}:{line}: {name}"
        for path in sources(package)
        for line, name in imported_roots(path)
        if name.startswith("robosteer_") and name not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", PACKAGES)
def test_ros_is_imported_in_nodes_only(package: str) -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{line}: {name}"
        for path in sources(package)
        if path.relative_to(SOURCE / package / package).parts[0] != "nodes"
        for line, name in imported_roots(path)
        if is_ros(name)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_core_stays_small(package: str) -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{line}: {name}"
        for path in sources(package)
        for line, name in imported_roots(path)
        if name in FOREIGN
    ]
    assert not wrong, "\n".join(wrong)
