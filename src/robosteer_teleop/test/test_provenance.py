"""Where an episode comes from.

Pins: a package that is installed beneath a checkout takes that checkout's commit for its own; changes that are not
committed go unseen; a serial number of a camera that the rig does not have.
"""

import hashlib
import subprocess

import pytest

from robosteer_rig.errors import RobosteerError
from robosteer_teleop.provenance import commit_of, describe_hardware


def test_the_commit_is_that_of_a_tracked_file_and_says_when_it_was_changed(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    file = tmp_path / "code.py"
    file.write_text("1")
    assert commit_of(file) == ""
    git("init")
    assert commit_of(file) == ""
    git("add", "code.py")
    git("commit", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert commit_of(file) == commit
    (tmp_path / "installed.py").write_text("2")
    assert commit_of(tmp_path / "installed.py") == ""
    file.write_text("3")
    assert commit_of(file) == f"{commit}-dirty"


def test_serials_and_calibration(rig, tmp_path):
    file = tmp_path / "cameras.yaml"
    file.write_bytes(b"k: 1")
    camera = next(iter(rig.cameras))
    assert describe_hardware(rig, "", "") == {}
    assert describe_hardware(rig, f"arm=295341 {camera}=S1", str(file)) == {
        "serials": {"arm": "295341", camera: "S1"},
        "calibration": {"file": "cameras.yaml", "sha256": hashlib.sha256(b"k: 1").hexdigest()},
    }


@pytest.mark.parametrize("serials", ["arm", "arm=", "nowhere=1"])
def test_a_serial_of_nothing_is_refused(rig, serials):
    with pytest.raises(RobosteerError, match="serials: found"):
        describe_hardware(rig, serials, "")


def test_a_missing_calibration_is_refused(rig, tmp_path):
    with pytest.raises(RobosteerError, match="expected a file"):
        describe_hardware(rig, "", str(tmp_path / "nowhere"))
