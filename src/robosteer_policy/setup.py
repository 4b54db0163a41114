"""Build script of the robosteer_policy ROS 2 package (ament_python, also an ordinary wheel)."""

import sys
from glob import glob

from setuptools import find_packages, setup

PACKAGE = "robosteer_policy"

# colcon's --symlink-install calls `setup.py develop` and needs this option;
# pip's editable installs (setuptools >= 80) refuse it, so it is given only when asked for.
OPTIONS = {"develop": {"script_dir": f"$base/lib/{PACKAGE}"}} if "develop" in sys.argv else {}

setup(
    name=PACKAGE,
    version="0.1.0",
    description="How it acts: policy node, safety guard, action scheduling",
    license="Apache-2.0",
    maintainer="RoboSteer maintainers",
    maintainer_email="maintainers@robosteer.org",
    python_requires=">=3.11",
    packages=find_packages(exclude=["test", "test.*"]),
    package_data={PACKAGE: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", glob("launch/*.launch.py")),
        (f"share/{PACKAGE}/config", glob("config/*.*")),
    ],
    install_requires=["robosteer_rig", "robosteer_model", "numpy>=2"],
    options=OPTIONS,
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "guard = robosteer_policy.nodes.guard:main",
            "gripper = robosteer_policy.nodes.gripper:main",
            "homing = robosteer_policy.nodes.homing:main",
            "policy = robosteer_policy.nodes.policy:main",
            "run_recorder = robosteer_policy.nodes.run_recorder:main",
            "watchdog = robosteer_policy.nodes.watchdog:main",
        ],
        "robosteer.launch_checks": [
            "guard = robosteer_policy.launch_checks:guard",
            "homing = robosteer_policy.launch_checks:guard",
            "policy = robosteer_policy.launch_checks:policy",
            "watchdog = robosteer_policy.launch_checks:guard",
        ],
        "robosteer.commands": [
            "doctor = robosteer_policy.commands.doctor:main",
            "replay = robosteer_policy.commands.replay:main",
        ],
    },
)
