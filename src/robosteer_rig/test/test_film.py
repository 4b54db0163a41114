"""Pins: a film whose plain surfaces change colour from frame to frame, and one that loses a small object's colour."""

import numpy as np
from PIL import Image

from robosteer_rig.film import in_one_palette

TABLE, CUBE = (146, 113, 74), (20, 150, 40)


def frames(count):
    """A green cube of 3 x 3 pixels that wanders over a slightly noisy table, and a wall that changes its light."""
    random = np.random.default_rng(0)
    for number in range(count):
        picture = np.array(TABLE) + random.integers(-2, 3, (60, 80, 3))
        picture[:20] = (number * 8, 60, 200 - number * 6)
        picture[40:43, number : number + 3] = CUBE
        yield Image.fromarray(picture.astype(np.uint8))


def test_colours_stay_from_frame_to_frame():
    film = in_one_palette(list(frames(30)))
    palettes = {bytes(picture.getpalette()) for picture in film}
    assert len(film) == 30
    assert len(palettes) == 1
    seen = np.stack([np.asarray(picture.convert("RGB"), int) for picture in film])
    assert np.abs(seen[:, 45:] - TABLE).max() < 24
    for number, picture in enumerate(seen):
        assert np.abs(picture[41, number + 1] - CUBE).max() < 40


def test_no_picture_is_no_film():
    assert in_one_palette([]) == []
