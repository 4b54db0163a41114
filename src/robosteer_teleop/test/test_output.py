"""Which outputs the teleop node starts with.

Pins: an arm that follows poses which no other process checks although nobody has accepted that, through the launch file
or by the node itself.
"""

from pathlib import Path

import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.launch_checks import teleop
from robosteer_teleop.output import OUTPUTS, require_output

RIG = Path(__file__).parents[2] / "robosteer_bringup/config/rigs/sim_panda.yaml"
UNGUARDED = r"output: found cartesian, whose targets no guard checks, .* add unguarded:=true"


@pytest.mark.parametrize("unguarded", [False, True])
def test_an_unknown_output_is_refused(unguarded):
    with pytest.raises(RobosteerError, match="found 'torque', expected one of joint_velocity, cartesian"):
        require_output("torque", unguarded=unguarded)


def test_poses_that_nobody_checks_must_be_accepted_by_name():
    for output in OUTPUTS:
        require_output(output, unguarded=True)
    require_output("joint_velocity", unguarded=False)
    with pytest.raises(RobosteerError, match=UNGUARDED):
        require_output("cartesian", unguarded=False)


def test_a_launcher_is_told_before_anything_starts():
    teleop({"rig": str(RIG)})
    teleop({"rig": str(RIG), "output": "cartesian", "unguarded": True})
    with pytest.raises(RobosteerError, match=UNGUARDED):
        teleop({"rig": str(RIG), "output": "cartesian"})
