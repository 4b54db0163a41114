"""What the guard says about itself."""

from __future__ import annotations

from typing import Any

from robosteer_policy.guard.gate import Gate

SCHEMA = "robosteer.guard/1"


def describe(gate: Gate, mode: str) -> dict[str, Any]:
    """The content of `/robosteer/guard/status`.

    Args:
        gate: the arbiter.
        mode: of the output, joint_velocity or joint_impedance.
    """
    return {
        "schema": SCHEMA,
        "state": gate.state,
        "source": gate.source,
        "pending_source": gate.pending_source,
        "reason": gate.reason,
        "mode": mode,
        "at_rest": gate.limiter.at_rest,
        "limited": gate.limiter.limited,
        "counters": dict(sorted(gate.counters.items())),
    }
