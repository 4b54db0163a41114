"""The rig of the simulated cell, and one environment for all tests of a file: building a renderer takes longest."""

from pathlib import Path

import pytest

from robosteer_rig.rig import load_rig

RIG_PATH = Path(__file__).parents[2] / "robosteer_bringup" / "config" / "rigs" / "sim_panda.yaml"


@pytest.fixture(scope="session")
def rig_path():
    return RIG_PATH


@pytest.fixture(scope="session")
def rig():
    return load_rig(RIG_PATH)


@pytest.fixture(scope="module")
def environment(rig):
    from robosteer_sim.environment import CellEnvironment

    found = CellEnvironment(rig)
    yield found
    found.close()
