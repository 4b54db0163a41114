"""Cameras that are punctual and wrong.

Regressions pinned: a driver that repeats its last picture with fresh stamps was acted on for ever; wrist and scene
camera were exchanged by a reboot and nobody noticed; a still scene before a still arm counted as frozen.
"""

import pytest

from robosteer_policy.camera_watch import CameraWatch

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
