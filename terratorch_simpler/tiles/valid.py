"""Which pixels of a chip are measurements: the others are filled, or the chip is dropped."""

from __future__ import annotations

import numpy as np

from terratorch_simpler.tiles.grid import Flags, Image
from terratorch_simpler.tiles.scenes import Pixels

NOT_FINITE = "mostly NaN or infinite"
NO_DATA = "mostly nodata"
HIDDEN = "mostly cloud, shadow or snow"
FILL = "mostly one number in all bands, which no file calls nodata"
ONE_VALUE = "of one value in a band"
SOLID = 8
"""Pixels: a square of this side that holds one number in all bands is no measurement."""


def clean(pixels: Pixels, min_valid: float) -> tuple[Image, str | None]:
    """Fill the invalid pixels of a chip, or say why it cannot be used.

    Args:
        pixels: What was read.
        min_valid: Least share of valid pixels.

    Returns:
        The image, invalid pixels replaced by the mean of their band; and the reason to drop it, or
        None.
    """
    image = pixels.image
    finite = np.isfinite(image).all(axis=0)
    known = pixels.valid & finite & (image != 0).any(axis=0)
    measured = known & ~_fill(image)
    valid = measured if pixels.hidden is None else measured & ~pixels.hidden
    for flags, reason in (
        # Where nothing of a chip is NaN or nodata by itself, it is so together.
        (finite, NOT_FINITE),
        (known, NO_DATA),
        (measured, FILL),
        (valid, HIDDEN),
    ):
        if flags.mean() < min_valid or not flags.any():
            return image, reason
    seen = image[:, valid]
    if (seen.min(axis=1) == seen.max(axis=1)).any():
        return image, ONE_VALUE
    if not valid.all():
        image = np.where(valid, image, seen.mean(axis=1)[:, None, None])
    return image, None


def _fill(image: Image) -> Flags:
    """Pixels of a number that fills a whole square in all bands.

    Fill is written without a tag often enough. Bands that agree to the last digit do so by chance
    in single pixels, not in squares; a single band can be even, as water is.
    """
    bands, height, width = image.shape
    first = image[0]
    same: Flags = (image[1:] == first).all(axis=0)
    rows, columns = height // SOLID, width // SOLID
    if bands == 1 or not rows or not columns or same.sum() < SOLID * SOLID:
        return np.zeros((height, width), bool)
    # NaN where bands differ, which equals nothing, itself not either.
    squares = np.where(same, first, np.nan)[: rows * SOLID, : columns * SOLID]
    squares = squares.reshape(rows, SOLID, columns, SOLID)
    low, high = squares.min(axis=(1, 3)), squares.max(axis=(1, 3))
    return np.asarray(same & np.isin(first, low[low == high]))
