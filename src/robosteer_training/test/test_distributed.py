"""Training over several devices and processes.

Regressions pinned: a split batch that gives another loss; weights or state that are split and gathered wrongly; noise
that depends on the number of processes; every process writing the state; a wrong address that ends in a stack dump.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_training.finetune.processes import reach

CASE = Path(__file__).with_name("distributed_case.py")


def start(fsdp, directory, *joined, devices=1):
    flags = f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(CASE), str(fsdp), str(directory), *map(str, joined)]
    if joined:
        # One core per process: on CPUs XLA starts collectives that do not depend on each other in any order, and two
        # processes that disagree read each other's data ("collective mismatch"). GPUs queue them.
        command = ["taskset", "-c", str(joined[-1] % os.cpu_count()), *command]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def result(process):
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return result(start(1, tmp_path_factory.mktemp("alone")))


def check_same(found, alone):
    np.testing.assert_allclose(found["loss"], alone["loss"], rtol=1e-5)
    np.testing.assert_allclose(found["heldout"], alone["heldout"], rtol=1e-5)
    assert found["norm"] == pytest.approx(alone["norm"], rel=1e-5)


def test_a_coordinator_that_is_not_there_is_one_line():
    for address in ("no port", "host:", "127.0.0.1:99999"):
        with pytest.raises(RobosteerError, match="expected host:port of process 0"):
            reach(address, 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(RobosteerError, match=r"found nobody at .* \(Connection refused\), expected process 0"):
            reach(address, 0)
        free.listen()
        reach(address, 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fsdp", [1, 2])
def test_two_devices_train_as_one(fsdp, alone, tmp_path):
    found = result(start(fsdp, tmp_path, devices=2))
    assert found["devices"] == 2
    check_same(found, alone)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_as_one(alone, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    places = [tmp_path / "0", tmp_path / "1"]
    # Weights are split over both processes, so that their state has to be gathered too.
    running = [start(2, place, address, 2, index) for index, place in enumerate(places)]
    for index, process in enumerate(running):
        found = result(process)
        assert (found["processes"], found["devices"]) == (2, 2)
        check_same(found, alone)
        assert found["wrote"] is (index == 0)
