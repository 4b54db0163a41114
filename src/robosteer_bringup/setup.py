"""Build script of the robosteer_bringup ROS 2 package (ament_python, also an ordinary wheel)."""

import sys
from collections import defaultdict
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "robosteer_bringup"

# colcon's --symlink-install calls `setup.py develop` and needs this option;
# pip's editable installs (setuptools >= 80) refuse it, so it is given only when asked for.
OPTIONS = {"develop": {"script_dir": f"$base/lib/{PACKAGE}"}} if "develop" in sys.argv else {}


def shared(*folders: str) -> list[tuple[str, list[str]]]:
    """Every file below the folders, each in its own subfolder of share/<package>."""
    found = defaultdict(list)
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found[f"share/{PACKAGE}/{path.parent}"].append(str(path))
    return list(found.items())


setup(
    name=PACKAGE,
    version="0.1.0",
    description="All together: launch files, the launcher, the robosteer command, parameters, rig files and layouts",
    license="Apache-2.0",
    maintainer="RoboSteer maintainers",
    maintainer_email="maintainers@robosteer.org",
    python_requires=">=3.11",
    packages=find_packages(exclude=["test", "test.*"]),
    package_data={PACKAGE: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *shared("launch", "config"),
    ],
    install_requires=["robosteer_rig", "rich", "pyyaml"],
    options=OPTIONS,
    zip_safe=False,
    entry_points={
        "console_scripts": ["robosteer = robosteer_bringup.entry:main"],
        "robosteer.commands": [
            "demo = robosteer_bringup.demo.command:main",
            "launch = robosteer_bringup.launcher.command:main",
            "run = robosteer_bringup.launcher.run_command:main",
            "record = robosteer_bringup.launcher.shortcuts:record",
            "service = robosteer_bringup.graph_commands:service",
            "topic = robosteer_bringup.graph_commands:topic",
            "deploy = robosteer_bringup.launcher.shortcuts:deploy",
            "simulate = robosteer_bringup.launcher.shortcuts:simulate",
        ],
    },
)
