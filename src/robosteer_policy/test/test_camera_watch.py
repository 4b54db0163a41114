"""Cameras that are punctual and wrong.

Regressions pinned: a driver that repeats its last picture with fresh stamps was acted on for ever; wrist and scene
camera were exchanged by a reboot and nobody noticed; a still scene before a still arm counted as frozen; pictures from
a computer whose clock was half a second ahead counted as fresh when they were half a second old.
"""

import pytest

from robosteer_policy.camera_watch import CameraWatch, ahead_of_time
from robosteer_rig.align import Aligner
from robosteer_rig.messages import ImageSample, JointSample
from robosteer_rig.rig import load_rig

from .panda import READY, RIG

MS = 1_000_000
CAMERAS = ("wrist", "left", "right")


def show(watch, times_ms, picture="new", camera="wrist", frame_id="wrist_left_camera_frame_optical"):
    """Pictures at some times; returns what was wrong with the last."""
    found = ""
    for ms in times_ms:
        data = f"{picture}{ms if picture == 'new' else ''}".encode()
        found = watch.see(camera, frame_id, data, ms * MS)
    return found


def test_a_frozen_camera_is_noticed_within_three_pictures_of_a_moving_arm():
    watch = CameraWatch(CAMERAS)
    watch.moves(0.5, 0)
    assert show(watch, range(0, 400, 66)) == ""
    assert show(watch, [462, 528], "same") == ""
    assert "the same picture for 132 ms" in show(watch, [594], "same")


def test_a_still_arm_sees_the_same_picture():
    watch = CameraWatch(CAMERAS)
    watch.moves(0.01, 0)
    assert show(watch, range(0, 2000, 66), "same") == ""
    watch.moves(0.5, 2000 * MS)
    assert show(watch, [2066], "same") == "", "it has only begun to move"
    assert "frozen" in show(watch, [2132], "same")


@pytest.mark.parametrize(
    ("camera", "frame_id", "phrase"),
    [
        ("wrist", "left_left_camera_frame_optical", "camera wrist: found frame_id 'left_left_camera_frame_optical'"),
        ("left", "wrist_left_camera_frame_optical", "camera left: found frame_id"),
        ("left", "left_left_camera_frame_optical", ""),
        ("left", "camera_color_optical_frame", ""),
    ],
)
def test_a_picture_of_another_camera_is_noticed_by_its_frame(camera, frame_id, phrase):
    found = CameraWatch(CAMERAS).see(camera, frame_id, b"x", 0)
    assert found.startswith(phrase)
    assert bool(found) == bool(phrase)


def test_a_frame_that_changes_is_noticed_whatever_its_name():
    watch = CameraWatch(CAMERAS)
    assert watch.see("left", "camera_a", b"1", 0) == ""
    assert "changed from 'camera_a' to 'camera_b'" in watch.see("left", "camera_b", b"2", MS)


def test_a_clock_that_is_ahead_hides_how_old_the_inputs_are_and_is_noticed_by_its_stamps():
    rig = load_rig(RIG)
    aligner = Aligner(rig)
    now_ms, ahead_ms = 2000, 500
    for ms in range(0, now_ms + 1, 10):
        aligner.push("joint_state", ms * MS, JointSample(READY, 0 * READY))
        aligner.push("gripper_state", ms * MS, 0.0)
    said = ""
    for camera in aligner.cameras:
        for ms in range(0, now_ms + 1, 50):
            aligner.push(camera, (ms + ahead_ms) * MS, ImageSample(b"", "jpeg"))
            said = ahead_of_time(camera, (ms + ahead_ms) * MS, ms * MS, limit_s=0.05)
    assert aligner.stale_at(now_ms * MS) == (), "the picture that was taken half a second ago carries the time of now"
    assert said.endswith("stamps are 500 ms ahead of this computer's clock; synchronise the clocks")


@pytest.mark.parametrize("ahead_ms", [-1000, 0, 49])
def test_a_stamp_of_the_past_or_a_little_ahead_is_no_trouble(ahead_ms):
    assert ahead_of_time("wrist", (1000 + ahead_ms) * MS, 1000 * MS, limit_s=0.05) == ""
