"""Whatever fails, the arm is at rest within 300 ms, has not travelled far, somebody says why, and a person goes on.

One graph for all faults: the simulated cell, the guard and the policy node as they are, in processes of their own; the
model and the cameras are light. Time in which somebody was not scheduled is measured and does not count.

Regressions pinned: an arm that went on after its camera had died, until the next action; a policy that had been
stopped and continued went on by itself; a guard that came back from SIGSTOP sent its old velocity; a stranger's flood
took over; an arm that went on for two thirds of a second after its model had stalled; a source that came back from
nowhere was obeyed at once; a synchronous policy whose inference had hung moved the arm by what it had seen before.
"""

import signal
import time

import numpy as np
import pytest

from .fault_cases import Case, camera, go_on, kill, missing_chunk, prove, stop, tell
from .fault_world import FaultWorld
from .graph import DEADLINE_S, graph

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    with graph(folder) as world:
        here = FaultWorld(world, folder)
        yield here
        here.close()


def flood(faults):
    faults.signal("stranger", signal.SIGUSR1)


CASES = {
    "policy SIGKILL": Case(kill("policy"), "no valid command"),
    "policy SIGSTOP, a CPU that stalls": Case(stop("policy"), "no valid command", go_on("policy")),
    "guard SIGKILL": Case(kill("guard"), "guard: silent"),
    "guard SIGSTOP": Case(stop("guard"), "not scheduled", go_on("guard")),
    "camera SIGKILL": Case(kill("camera"), "ms old"),
    "camera SIGSTOP": Case(stop("camera"), "ms old", go_on("camera")),
    "camera frozen": Case(camera("frozen"), "the same picture", camera("good")),
    "cameras swapped": Case(camera("swapped"), "exchanged", camera("good")),
    "joint states SIGSTOP": Case(stop("cell"), "joint states", go_on("cell"), measured=False),
    "joint states SIGKILL": Case(kill("cell"), "joint states", measured=False),
    "not a number": Case(tell("fault nan"), "not finite", tell("swing")),
    "wrong shape": Case(tell("fault shape"), "actions of shape", tell("swing")),
    "a model that stalls for 2 s": Case(missing_chunk(tell("fault stall")), "no new actions", tell("swing")),
    "chunks a second late": Case(missing_chunk(tell("fault late")), "no new actions", tell("swing")),
    "a stranger's flood": Case(flood, "second publisher", kill("stranger")),
    "policy server SIGKILL and restart": Case(kill("server"), "policy server", source="client"),
    "policy server SIGSTOP": Case(missing_chunk(stop("server")), "no new actions", go_on("server"), source="client"),
    "commands late": Case(tell("fault late"), "no valid command", tell("swing"), "stand-in"),
    "commands half a second late, all at once": Case(
        tell("fault burst"), "no valid command", tell("swing"), "stand-in"
    ),
    "stamps jump ahead": Case(tell("fault ahead"), "no valid command", tell("swing"), "stand-in"),
    "stamps jump back": Case(tell("fault behind"), "no valid command", tell("swing"), "stand-in"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_arm_comes_to_rest_and_says_why(faults, name, record_property):
    prove(faults, name, CASES[name], record_property)


def run_to_its_end(faults):
    """Arm and enable, as often as it takes, until a run has ended because no chunk came in time."""
    end = time.monotonic() + DEADLINE_S
    while "no new actions" not in faults.acting()["reason"]:
        assert time.monotonic() < end, f"no run\n{faults.reason()}\n{faults.world.output()}"
        for client in (faults.probe.arming, faults.enabling):
            faults.ask(client)
        faults.wait(1.0, lambda: faults.acting()["state"] == "running")
        faults.wait(8.0, lambda: faults.acting()["state"] != "running")
    faults.wait(3.0, lambda: "no new actions" in faults.reason())


def test_what_a_hung_inference_saw_before_a_synchronous_run_moves_nothing(faults):
    """Nothing waits for the first chunk of a run, so only its age tells that it comes too late."""
    faults.command_by("synchronous")
    faults.prepare()
    faults.probe.until(lambda: faults.acting().get("state") == "ready" and faults.speed() < 0.01, "rest")
    faults.tell("fault stall")
    faults.probe.until(lambda: faults.acting()["instruction"] == "fault stall", "the instruction")
    begun = len(faults.probe.commands)
    run_to_its_end(faults)
    assert "discarded actions for an observation 2." in faults.acting()["reason"]
    assert "discarded actions for an observation 2." in faults.reason(), "on diagnostics, too"
    assert faults.acting()["discarded"] >= 1
    assert not any(velocity.any() for _, velocity in faults.probe.commands[begun:])
    faults.tell("swing")
    faults.begin()


def known(faults):
    """Whether the graph knows the source; found again, it has lost its name."""
    infos = faults.probe.node.get_publishers_info_by_topic("/robosteer/policy/command")
    return bool({info.node_name for info in infos} - {"stranger"})


def lost(faults):
    """The source's lease runs out: the graph forgets it, although its process lives."""
    faults.signal("policy", signal.SIGSTOP)


def found(faults):
    faults.probe.until(lambda: not known(faults), "the end of the lease")
    faults.signal("policy", signal.SIGCONT)
    comes_back(faults)


def comes_back(faults):
    """The graph knows the source again, the guard hears it and does not obey."""
    ignored = "rejected policy: guard is in state fault"
    heard = faults.probe.guard()["counters"].get(ignored, 0)
    faults.probe.until(lambda: known(faults), "the source's return")
    faults.probe.until(lambda: faults.probe.guard()["counters"].get(ignored, 0) > heard + 50, "unheeded commands")


LOSSES = {
    "the source's lease runs out": Case(lost, "no valid command", found, "stand-in"),
    "the source leaves the graph": Case(tell("fault leave"), "no valid command", comes_back, "stand-in"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_source_that_discovery_loses_and_finds_again_is_not_obeyed_by_itself(faults, name, record_property):
    prove(faults, name, LOSSES[name], record_property)


@pytest.mark.parametrize(("kind", "count"), [("duplicate", "duplicated stamp"), ("reorder", "reordered stamp")])
def test_doubled_and_old_commands_are_dropped_and_counted_and_the_motion_goes_on(faults, kind, count):
    faults.command_by("stand-in")
    faults.begin()
    faults.tell(f"fault {kind}")
    begun, dropped = len(faults.probe.commands), f"rejected policy: {count}"
    faults.probe.until(lambda: faults.probe.guard()["counters"].get(dropped, 0) > 100, "drops")
    obeyed = np.array([velocity for _, velocity in faults.probe.commands[begun:]])
    assert faults.probe.guard()["state"] == "armed"
    assert np.abs(obeyed[:, 0]).max() > 0.95
    assert not obeyed[:, 1:].any(), "what was dropped would have moved joint 2"
    faults.tell("swing")
    faults.begin()


@pytest.mark.parametrize("kind", ["duplicate", "reorder"])
def test_doubled_and_old_chunks_are_dropped_and_the_motion_goes_on(faults, kind):
    faults.command_by("policy")
    faults.begin()
    faults.tell(f"fault {kind}")
    faults.records.clear()
    faults.probe.until(lambda: faults.accepted().count(False) >= 5 and faults.accepted().count(True) >= 5, "both kinds")
    assert max(abs(v).max() for _, v in faults.probe.commands[-200:]) <= 1.0 + 1e-6
    faults.tell("swing")
    faults.begin()
