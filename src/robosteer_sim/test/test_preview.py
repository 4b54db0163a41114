"""The picture command.

Pins: a picture that is not written, or blank; a wrong file type or moment found out only after the rendering.
"""

import numpy as np
import pytest
from PIL import Image

from robosteer_rig.errors import RobosteerError
from robosteer_sim.preview import main


def test_a_picture_and_a_film(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "new" / "cell.png"), "--height", "60"]) == 0
    picture = np.asarray(Image.open(tmp_path / "new" / "cell.png"))
    assert picture.shape == (60, 3 * 106, 3)
    assert picture.std() > 20
    assert main(["--out", str(tmp_path / "cell.gif"), "--height", "60"]) == 0
    assert Image.open(tmp_path / "cell.gif").n_frames > 20
    shown = capsys.readouterr().out.splitlines()
    assert all("; the scripted expert succeeds, and ends after " in line for line in shown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "cell.txt"], "out: found 'cell.txt'"),
        (["--out", "cell.png", "--at", "1.5"], "at: found 1.5"),
        (["--out", "cell.png", "--height", "5000"], "height: found 5000"),
        (["--out", "cell.png", "--grid-cell", "77"], "grid_cell: found 77"),
        (["--out", "cell.png", "--task", "dance"], "task: found 'dance'"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(RobosteerError, match=message):
        main(arguments)
