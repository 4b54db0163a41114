"""Build script of the robosteer_teleop ROS 2 package (ament_python, also an ordinary wheel)."""

import sys
from glob import glob

from setuptools import find_packages, setup

PACKAGE = "robosteer_teleop"

# colcon's --symlink-install calls `setup.py develop` and needs this option;
# pip's editable installs (setuptools >= 80) refuse it, so it is given only when asked for.
OPTIONS = {"develop": {"script_dir": f"$base/lib/{PACKAGE}"}} if "develop" in sys.argv else {}

setup(
    name=PACKAGE,
    version="0.1.0",
    description="How it is shown: teleoperation and the crash-safe episode recorder",
    license="Apache-2.0",
    maintainer="RoboSteer maintainers",
    maintainer_email="maintainers@robosteer.org",
    python_requires=">=3.11",
    packages=find_packages(exclude=["test", "test.*"]),
    package_data={PACKAGE: ["py.typed", "web/dist/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", glob("launch/*.launch.py")),
        (f"share/{PACKAGE}/config", glob("config/*.*")),
    ],
    install_requires=[
        "robosteer_rig",
        "aiohttp",
        "cryptography",
        "pin",
        "rosbags",
        "mcap",
        "lz4",
        "zstandard",
        "pyyaml>=6",
        "numpy>=2",
        "rich",
        "tyro",
    ],
    options=OPTIONS,
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "keys = robosteer_teleop.nodes.keys:main",
            "recorder = robosteer_teleop.nodes.recorder:main",
            "teleop = robosteer_teleop.nodes.teleop:main",
        ],
        "robosteer.launch_checks": [
            "recorder = robosteer_teleop.launch_checks:recorder",
            "teleop = robosteer_teleop.launch_checks:teleop",
        ],
        "robosteer.headsets": ["socket = robosteer_teleop.socket_headset:connect"],
        "robosteer.commands": [
            "bag = robosteer_teleop.bag_command:main",
            "teleop = robosteer_teleop.teleop_command:main",
        ],
    },
)
