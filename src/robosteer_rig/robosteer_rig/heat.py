"""Heat drawn over a camera's picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

_OPACITY = 0.75
# Nine even stops of matplotlib's "inferno".
_COLOURS = np.array(
    [
        (0, 0, 4),
        (33, 12, 74),
        (87, 16, 110),
        (138, 34, 106),
        (188, 55, 84),
        (228, 90, 49),
        (249, 142, 9),
        (249, 203, 53),
        (252, 255, 164),
    ],
    np.float32,
)


def overlay(picture: np.ndarray, heat: np.ndarray, largest: float, size: int) -> np.ndarray:
    """Colour the patches of a picture by their share of attention.

    Args:
        picture: uint8 (h, w, 3), what the model saw.
        heat: (rows, columns) of the patches; patch (i, j) covers its own rectangle of the picture.
        largest: share that gets the strongest colour.
        size: side of the result in pixels.

    Returns:
        uint8 (size, size, 3).
    """
    base = np.asarray(Image.fromarray(picture).resize((size, size)), np.float32)
    strength = np.clip(heat / max(largest, 1e-12), 0, 1).astype(np.float32)
    wide = np.asarray(Image.fromarray(strength).resize((size, size), Image.Resampling.NEAREST))
    stops = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(wide, stops, channel) for channel in _COLOURS.T], axis=-1)
    weight = _OPACITY * wide[..., None]
    return np.round((1 - weight) * base + weight * colour).astype(np.uint8)
