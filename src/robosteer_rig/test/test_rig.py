"""The rig contract.

Regressions pinned: a misspelt or doubled field is silently ignored; `yes` passes for a number; a digest depends on
comments or on `1` against `1.0`; two cameras share one topic; an error does not name its field; the
reference lags behind.
"""

import dataclasses
import re
from pathlib import Path

import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_rig.limits import JointLimits
from robosteer_rig.rig import (
    Action,
    Arm,
    Camera,
    Frames,
    Gripper,
    Rig,
    Workspace,
    differences,
    load_rig,
    parse_rig,
    recording_differences,
)

from .bench import RIGS, sim_rig

PROFILES = sorted(path.stem for path in RIGS.glob("*.yaml"))


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_are_valid_and_survive_the_round_trip(name):
    rig = load_rig(RIGS / f"{name}.yaml")
    assert rig.name == name
    assert parse_rig(rig.to_yaml()) == rig
    assert parse_rig(rig.to_yaml()).digest() == rig.digest()


def test_digest_ignores_how_the_file_is_written_and_nothing_else():
    rig = sim_rig()
    text = (RIGS / "sim_panda.yaml").read_text()
    assert parse_rig(re.sub(r"#.*", "", text).replace("rate_hz: 15.0", "rate_hz: 15")).digest() == rig.digest()
    turned = dataclasses.replace(rig, gripper=dataclasses.replace(rig.gripper, open_position=0.7929, closed_position=0))
    assert turned.digest() != rig.digest()


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("name: sim_panda", "name: sim_panda\nnmae: x", "nmae: found an unknown field"),
        ("name: sim_panda\n", "", "name: found nothing"),
        ("name: sim_panda", "name: sim_panda\nname: other", "name: found twice"),
        ("robosteer.rig/1", "robosteer.rig/9", "schema: found 'robosteer.rig/9', expected robosteer.rig/1"),
        ("width: 320", "width: yes", "cameras.wrist.width: found True, expected a whole number"),
        ("width: 320", "width: 320.5", "cameras.wrist.width: found 320.5"),
        ("size: 180", "size: 181", "cameras.wrist.crop: found 'x0=70 y0=0 size=181'"),
        ("x0: 70", "x0: -1", "cameras.wrist.crop"),
        ("/left/zed", "/wrist/zed", "cameras.left.topic"),
        ("/joint_states", "joint states", "arm.state_topic"),
        ("encoding: jpeg", "encoding: bgra8", "cameras.wrist.encoding: found 'bgra8', expected one of jpeg, png"),
        ("exterior_image_1_left: left", "exterior_image_1_left: lft", "policy_cameras.exterior_image_1_left"),
        ("unit_rad_per_s: 3.0", "unit_rad_per_s: .nan", "action.unit_rad_per_s: found nan, expected a finite number"),
        ("unit_rad_per_s: 3.0", "unit_rad_per_s: 0", "action.unit_rad_per_s"),
        ("normalised_joint_velocity", "rad_per_s", "action.convention: found 'rad_per_s'"),
        ("closed_position: 0.7929", "closed_position: 0.0", "gripper.closed_position"),
        ("panda_joint7]", "panda_joint6]", "arm.joints"),
        ("panda_joint6, panda_joint7]", "panda_joint6]", "arm.joints"),
        ("[2.8973, 1.7628", "[-3.0, 1.7628", "arm.position_min[0]"),
        ("jerk_max: [7500.0, ", "jerk_max: [", "arm.jerk_max"),
        ("[15.0, 7.5", "[15.0, soft", "arm.acceleration_max[1]: found 'soft'"),
        ("  wrist:\n", "  joint_state:\n", "cameras: found 'joint_state'"),
        ("name: sim_panda", "name: [", "found text that is not YAML"),
    ],
)
def test_errors_name_the_field_in_one_line(old, new, field):
    text = (RIGS / "sim_panda.yaml").read_text()
    assert old in text
    with pytest.raises(RobosteerError) as caught:
        parse_rig(text.replace(old, new, 1), source="rig x.yaml")
    assert field in str(caught.value)
    assert str(caught.value).startswith("rig x.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "null", "[]", "3", "a: &a [*a]", "? {}\n: 1", "!!python/object:os.x x", "\0"])
def test_text_that_is_no_rig_is_one_error(text):
    with pytest.raises(RobosteerError):
        parse_rig(text)


def test_missing_and_binary_files_are_one_error(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "absent.yaml", tmp_path / "binary.yaml", tmp_path):
        with pytest.raises(RobosteerError, match=re.escape(str(path))):
            load_rig(path)


def test_differences_name_field_found_and_expected():
    rig = sim_rig()
    left, wrist = rig.cameras["left"], rig.cameras["wrist"]
    swapped = dataclasses.replace(
        rig,
        cameras={
            **rig.cameras,
            "left": dataclasses.replace(left, topic=wrist.topic),
            "wrist": dataclasses.replace(wrist, topic=left.topic, output_size=224),
        },
    )
    assert differences(rig, rig) == []
    lines = differences(swapped, rig)
    assert [line.split(":")[0] for line in lines] == [
        "cameras.left.topic",
        "cameras.wrist.output_size",
        "cameras.wrist.topic",
    ]
    assert lines[1] == "cameras.wrist.output_size: found 224, expected 64"
    # Another size is a choice of use; another topic changes what the recording means.
    assert [line.split(":")[0] for line in recording_differences(swapped, rig)] == [
        "cameras.left.topic",
        "cameras.wrist.topic",
    ]


def test_gripper_polarity_works_both_ways():
    gripper = sim_rig().gripper
    width = dataclasses.replace(gripper, open_position=0.08, closed_position=0.0)
    assert gripper.normalise(0.0) == 0.0
    assert gripper.normalise(0.7929) == 1.0
    assert width.normalise(0.08) == 0.0
    assert width.normalise(0.0) == 1.0
    assert width.normalise(0.09) == 0.0
    for value in (0.0, 0.25, 1.0):
        assert width.normalise(width.denormalise(value)) == pytest.approx(value)


def test_velocity_bounds_let_the_arm_stop_and_scale_the_whole_vector():
    for name in PROFILES:
        limits = JointLimits.of(load_rig(RIGS / f"{name}.yaml").arm)
        middle = (limits.position_min + limits.position_max) / 2
        lower, upper = limits.velocity_bounds(middle)
        assert (lower < 0).all()
        assert (upper > 0).all()
        assert (upper <= limits.velocity_max).all()
        beyond = limits.position_max + 0.1
        assert (limits.velocity_bounds(beyond)[1] == 0).all()
        assert (limits.velocity_bounds(beyond)[0] < 0).all()
        command = limits.velocity_max * [3, 1, 1, -1, 1, 1, 1]
        scaled, factor = limits.scale_velocity(command, middle)
        assert factor < 1
        assert scaled == pytest.approx(command * factor)
        assert (scaled <= upper + 1e-12).all()
        assert (scaled >= lower - 1e-12).all()
        assert limits.scale_velocity(command * 0, middle)[1] == 1.0


def test_the_reference_has_every_field_with_its_default():
    page = (Path(__file__).parents[3] / "docs/reference/rig-file.md").read_text()
    sections = dict(re.findall(r"^##+ ([\w, ]+)\n(.*?)(?=^##|\Z)", page, flags=re.MULTILINE | re.DOTALL))
    parts = {"Fields": Rig, "arm": Arm, "gripper": Gripper, "cameras": Camera, "action": Action}
    parts |= {"frames, workspace": Frames, "workspace": Workspace}
    for title, part in parts.items():
        rows = re.findall(
            r"^\| (`.*?) \| *(.*?) *\|", sections.get(title, sections["frames, workspace"]), flags=re.MULTILINE
        )
        told = {name: default for names, default in rows for name in re.findall(r"\w+", names)}
        for field in dataclasses.fields(part):
            if part is Rig and any(field.name in section.split(", ") for section in sections):
                continue
            assert field.name in told, (title, field.name)
            if isinstance(field.default, float):
                assert told[field.name] == f"{field.default:g}", (title, field.name)
            assert (field.default is dataclasses.MISSING) == (told[field.name] == ""), (title, field.name)
