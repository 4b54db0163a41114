"""Animated GIFs whose colours stay the same from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

COLOURS = 128
_SAMPLES = 8


def in_one_palette(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """Reduce pictures of one size to colours that all of them share; with a palette each, plain surfaces flicker.

    Colours are chosen for coverage, from some of the pictures: by frequency, a cube of few pixels would lose its own.

    Args:
        pictures: RGB, in order; none gives none.
    """
    if not pictures:
        return []
    sample = pictures[:: -(-len(pictures) // _SAMPLES)]
    width, height = sample[0].size
    sheet = Image.new("RGB", (width, height * len(sample)))
    for number, picture in enumerate(sample):
        sheet.paste(picture, (0, number * height))
    palette = sheet.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
