"""Build script of the robosteer_model ROS 2 package (ament_python, also an ordinary wheel)."""

import sys
from glob import glob

from setuptools import find_packages, setup

PACKAGE = "robosteer_model"

# colcon's --symlink-install calls `setup.py develop` and needs this option;
# pip's editable installs (setuptools >= 80) refuse it, so it is given only when asked for.
OPTIONS = {"develop": {"script_dir": f"$base/lib/{PACKAGE}"}} if "develop" in sys.argv else {}

setup(
    name=PACKAGE,
    version="0.1.0",
    description="What the policy is: pi0, pi0.5 and pi0-FAST in JAX with taps and edits, checkpoints, transforms, policy server",
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
    install_requires=[
        "jax>=0.10,<0.11",
        "optax",
        "orbax-checkpoint",
        "tensorstore",
        "ml_dtypes",
        "augmax==0.4.1",
        "sentencepiece",
        "msgpack",
        "websockets",
        "numpy>=2",
        "pillow",
        "tyro",
        "rich",
    ],
    options=OPTIONS,
    zip_safe=False,
    entry_points={
        "console_scripts": [],
        "robosteer.commands": [
            "checkpoint = robosteer_model.commands.checkpoint:main",
            "serve = robosteer_model.commands.serve:main",
        ],
    },
)
