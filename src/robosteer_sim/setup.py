"""Build script of the robosteer_sim ROS 2 package (ament_python, also an ordinary wheel)."""

import sys
from glob import glob

from setuptools import find_packages, setup

PACKAGE = "robosteer_sim"

# colcon's --symlink-install calls `setup.py develop` and needs this option;
# pip's editable installs (setuptools >= 80) refuse it, so it is given only when asked for.
OPTIONS = {"develop": {"script_dir": f"$base/lib/{PACKAGE}"}} if "develop" in sys.argv else {}

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Where it can be tried: a MuJoCo Franka cell on the hardware's topics, tasks and a scripted operator",
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
    install_requires=["robosteer_rig", "mujoco==4.0.0", "numpy>=2", "pillow", "rich", "tyro"],
    options=OPTIONS,
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "cell = robosteer_sim.nodes.cell:main",
            "scripted_operator = robosteer_sim.nodes.scripted_operator:main",
            "trial_runner = robosteer_sim.nodes.trial_runner:main",
        ],
        "robosteer.launch_checks": [
            "cell = robosteer_sim.launch_checks:cell",
            "scripted_operator = robosteer_sim.launch_checks:scripted_operator",
            "trial_runner = robosteer_sim.launch_checks:trial_runner",
        ],
        "robosteer.commands": ["sim-preview = robosteer_sim.preview:main"],
        "robosteer.environments": ["cell = robosteer_sim.environment:make"],
        "robosteer.scene_checks": ["cell = robosteer_sim.layout:check_scene"],
        "robosteer.task_digests": ["cell = robosteer_sim.task_files:own_digest"],
    },
)
