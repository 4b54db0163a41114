"""A checkpoint acts only on a rig whose contract it was made for.

Regressions pinned: a checkpoint made for swapped cameras was accepted; one for a rig with other limits was refused.
"""

import dataclasses

import pytest

from robosteer_policy.contract import contract_differences, require_contract
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import Crop, load_rig

from .panda import RIG

RIG_HERE = load_rig(RIG)


def test_the_same_rig_fits_and_limits_may_differ():
    slower = dataclasses.replace(RIG_HERE.arm, velocity_max=(0.5,) * 7, max_age_s=0.1)
    other = dataclasses.replace(RIG_HERE, name="another_desk", arm=slower)
    convention = {"convention": "normalised_joint_velocity", "unit_rad_per_s": 3.0, "rate_hz": 15.0}
    assert contract_differences(RIG_HERE.to_yaml(), convention, other) == ([], True)
    assert require_contract("runs/first", RIG_HERE.to_yaml(), {}, other)


def test_a_stock_checkpoint_says_nothing():
    assert contract_differences(None, {}, RIG_HERE) == ([], False)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"policy_cameras": {"exterior_image_1_left": "wrist", "wrist_image_left": "left"}}, "policy_cameras"),
        ({"policy_cameras": {"exterior_image_1_left": "right", "wrist_image_left": "wrist"}}, "policy_cameras"),
        ({"action": dataclasses.replace(RIG_HERE.action, unit_rad_per_s=1.0)}, "action.unit_rad_per_s: found 3.0"),
        ({"action": dataclasses.replace(RIG_HERE.action, rate_hz=6.0)}, "action.rate_hz: found 15.0, expected 6.0"),
        ({"gripper": dataclasses.replace(RIG_HERE.gripper, open_position=0.8, closed_position=0.0)}, "gripper."),
        ({"arm": dataclasses.replace(RIG_HERE.arm, joints=tuple(f"fr3_joint{i}" for i in range(1, 8)))}, "arm.joints"),
    ],
    ids=["swapped", "other camera", "unit", "rate", "polarity", "joints"],
)
def test_a_checkpoint_for_another_contract_is_refused_with_the_field(change, field):
    rig = dataclasses.replace(RIG_HERE, **change)
    with pytest.raises(RobosteerError, match="does not fit rig sim_panda") as error:
        require_contract("runs/first", RIG_HERE.to_yaml(), {}, rig)
    assert field in str(error.value)
    assert "\n" not in str(error.value)


def test_a_view_of_another_size_is_refused_but_an_unused_camera_may_differ():
    cameras = {n: dataclasses.replace(c, crop=Crop(0, 0, 100)) for n, c in RIG_HERE.cameras.items()}
    unused = dataclasses.replace(RIG_HERE, cameras={**RIG_HERE.cameras, "right": cameras["right"]})
    assert require_contract("x", RIG_HERE.to_yaml(), {}, unused)
    with pytest.raises(RobosteerError, match=r"cameras\.left\.crop"):
        require_contract("x", RIG_HERE.to_yaml(), {}, dataclasses.replace(RIG_HERE, cameras=cameras))


def test_an_action_convention_without_a_rig_is_compared_too():
    with pytest.raises(RobosteerError, match=r"action\.unit_rad_per_s: found 1.0, expected 3.0"):
        require_contract("x", None, {"unit_rad_per_s": 1.0}, RIG_HERE)
