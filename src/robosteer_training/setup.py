"""Build script of the robosteer_training ROS 2 package (ament_python, also an ordinary wheel)."""

import sys
from collections import defaultdict
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "robosteer_training"

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
    description="How it is steered: bags to dataset, attention-head selection, sparse LoRA, checkpoint and report",
    license="Apache-2.0",
    maintainer="RoboSteer maintainers",
    maintainer_email="maintainers@robosteer.org",
    python_requires=">=3.11",
    packages=find_packages(exclude=["test", "test.*"]),
    package_data={PACKAGE: ["py.typed", "report/*.j2", "quality/*.j2"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *shared("checkpoints"),
    ],
    install_requires=[
        "robosteer_rig",
        "robosteer_model",
        "jax>=0.10,<0.11",
        "optax",
        "rosbags",
        "mcap",
        "pyarrow",
        "av",
        "matplotlib",
        "jinja2",
        "rich",
        "tyro",
        "numpy>=2",
        "pillow",
    ],
    options=OPTIONS,
    zip_safe=False,
    entry_points={
        "console_scripts": ["steer = robosteer_training.commands.steer:console"],
        "robosteer.commands": [
            "atlas = robosteer_training.commands.atlas:main",
            "convert = robosteer_training.commands.convert:main",
            "dataset = robosteer_training.commands.dataset:main",
            "evaluate = robosteer_training.commands.evaluate:main",
            "finetune = robosteer_training.commands.finetune:main",
            "heads = robosteer_training.commands.heads:main",
            "paper = robosteer_training.commands.paper:main",
            "pretrain-nano = robosteer_training.commands.pretrain_nano:main",
            "steer = robosteer_training.commands.steer:main",
        ],
    },
)
