"""How the operator's motion reaches the arm: joint velocities through the guard, or poses straight to a controller."""

from __future__ import annotations

from robosteer_rig.errors import RobosteerError

JOINT_VELOCITY, CARTESIAN = "joint_velocity", "cartesian"
OUTPUTS = (JOINT_VELOCITY, CARTESIAN)


def require_output(output: str, *, unguarded: bool) -> None:
    """Refuse an unknown output, and one that no other process checks unless somebody has accepted that.

    Args:
        output: asked for.
        unguarded: whether targets may reach the arm's controller without passing the guard.

    Raises:
        RobosteerError: naming the known ones, or what to say.
    """
    if output not in OUTPUTS:
        raise RobosteerError(f"output: found {output!r}, expected one of {', '.join(OUTPUTS)}")
    if output == CARTESIAN and not unguarded:
        raise RobosteerError(
            f"output: found {CARTESIAN}, whose targets no guard checks, expected {JOINT_VELOCITY} on hardware; "
            "if you accept that, add unguarded:=true (docs/explanation/safety.md)"
        )
