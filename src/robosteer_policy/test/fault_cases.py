"""One fault: move, let something fail, measure how the arm comes to rest, and ask for the reason."""

import dataclasses
import signal
import time
from collections.abc import Callable
from typing import Any

from std_msgs.msg import Float64

REST_S, TRAVEL_RAD = 0.3, 0.15
# A busy machine adds milliseconds, and troubles of its own that are noticed first: such a case is tried again.
ATTEMPTS = 4


def nothing(faults):
    return None


@dataclasses.dataclass(frozen=True)
class Case:
    """A fault.

    Attributes:
        fault: lets it happen; may return the moment when it took effect (monotonic, s), or a function that does.
        phrase: part of the reason.
        repair: what a person would do before going on.
        source: who commands, see `FaultWorld`.
        measured: whether the arm itself still measures.
    """

    fault: Callable[[Any], Any]
    phrase: str
    repair: Callable[[Any], Any] = nothing
    source: str = "policy"
    measured: bool = True


def kill(name):
    return lambda faults: faults.signal(name, signal.SIGKILL)


def stop(name):
    return lambda faults: faults.signal(name, signal.SIGSTOP)


def go_on(name):
    return lambda faults: faults.signal(name, signal.SIGCONT)


def tell(text):
    return lambda faults: faults.tell(text)


def jump(seconds):
    return lambda faults: faults.jump.publish(Float64(data=seconds))


def missing_chunk(fault):
    """No chunk comes any more: this takes effect when the one after the last should have taken over."""

    def do(faults):
        fault(faults)
        return lambda: [t for t, record in faults.records if record["accepted"]][-1] + 1 / 15

    return do


def camera(mode):
    def do(faults):
        from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
        from rcl_interfaces.srv import SetParameters

        client = faults.probe.node.create_client(SetParameters, "/camera/set_parameters")
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=mode)
        faults.probe.call(client, SetParameters.Request(parameters=[Parameter(name="mode", value=value)]))
        return time.monotonic()  # The first wrong picture comes after the answer.

    return do


def prove(faults, name, case, record_property):
    """The arm comes to rest in time and stays there, somebody says why, and it goes on when a person wants it to."""
    for _ in range(ATTEMPTS):
        rest_s, travel, stalls = strike(faults, case)
        stays_at_rest(faults)
        case.repair(faults)
        # Nobody who is stopped can say anything; whoever goes on says it then.
        faults.wait(5.0, lambda: case.phrase in faults.reason())
        said = faults.reason()
        stays_at_rest(faults)
        print(f"{name}: rest {rest_s:.3f} s, travel {travel:.3f} rad, not scheduled {stalls:.3f} s; {said}")
        if case.phrase in said and rest_s <= REST_S + stalls and travel <= TRAVEL_RAD + stalls:
            break
    record_property("rest_s", round(rest_s, 3))
    record_property("travel_rad", round(travel, 3))
    assert rest_s <= REST_S + stalls
    assert travel <= TRAVEL_RAD + stalls
    assert case.phrase in said
    faults.begin()


def strike(faults, case):
    """Move, fail, and wait for rest."""
    faults.command_by(case.source)
    faults.begin()
    faults.diagnoses.clear()
    since = time.monotonic()
    effect = case.fault(faults)
    moving = faults.speed if case.measured else faults.commanded
    faults.probe.until(lambda: moving() < 0.03 and time.monotonic() > since + 0.4, "rest")
    since = (effect() if callable(effect) else effect) or since
    return faults.rest(since, measured=case.measured)


def stays_at_rest(faults):
    """For half a second nothing moves, although the fault may be over."""
    faults.wait(0.5)
    assert faults.speed() < 0.03
