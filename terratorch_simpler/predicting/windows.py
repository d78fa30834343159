"""Windows of a scene: where they lie, which part of each counts, and with which weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from terratorch_simpler.tiles.grid import Image

DEFAULT_CROP, DEFAULT_STRIDE, DEFAULT_DELTA = 224, 192, 8
"""What TerraTorch's tiled inference has unless it is told otherwise."""
LEAST_WEIGHT = 1e-6
"""What every pixel that counts weighs at least."""


@dataclass(frozen=True)
class Axis:
    """The windows along the rows or the columns of a scene.

    Positions are pixels of the padded scene: ``before`` reflected pixels, the scene, and reflected
    ones up to the end of the last window.

    Attributes:
        size: Pixels of the scene.
        crop: Pixels of a window.
        stride: Pixels from one window to the next.
        delta: Pixels at either end of a window that do not count.
        before: Pixels that are padded before the scene.
    """

    size: int
    crop: int
    stride: int
    delta: int
    before: int

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First pixel of each window: a stride apart, the last one at the end of the scene.

        Where TerraTorch's own starts would leave pixels without any window (it stops with an error
        then), the window between the last two is there as well.
        """
        last = self.size + 2 * self.before - self.crop
        if last <= 0:
            return (0,)
        starts = [*range(0, last - 1, self.stride), last]
        inner = self.crop - 2 * self.delta
        if starts[0] > 0 or any(later - start > inner for start, later in pairwise(starts)):
            starts = [*range(0, last, self.stride), last]
        return tuple(starts)

    def is_at_edge(self, index: int) -> bool:
        """Whether a window is the first or the last one."""
        return index in (0, len(self.starts) - 1)

    def pixels(self, index: int) -> NDArray[np.int64]:
        """The scene's pixel under each pixel of a window, reflected at the edges."""
        start = self.starts[index] - self.before
        return reflected(np.arange(start, start + self.crop), self.size)

    def done(self, index: int) -> int:
        """How many pixels of the scene no window after this one touches."""
        return self.starts[index + 1] if index + 1 < len(self.starts) else self.size

    def first_touching(self, pixel: int) -> int:
        """The first window that reaches a pixel of the scene, or ends after it."""
        return next(
            index
            for index, start in enumerate(self.starts)
            if start - self.before + self.crop > pixel
        )


@dataclass(frozen=True)
class Placed:
    """The part of a window that counts, and where it lies.

    Attributes:
        inside: Rows and columns of the window.
        outside: The same rows and columns of the scene.
        weights: Weight of each pixel: [rows, columns].
    """

    inside: tuple[slice, slice]
    outside: tuple[slice, slice]
    weights: Image


@dataclass(frozen=True)
class Tiling:
    """All windows of a scene, as TerraTorch's tiled inference lays and blends them.

    Attributes:
        rows: Along the rows.
        columns: Along the columns.
        padding: Whether the scene is padded by reflection, so that the border of every window can
            be left out. Without, windows at the edge of the scene count to all of their borders.
    """

    rows: Axis
    columns: Axis
    padding: bool

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Row and column of each window, row by row."""
        for row in range(len(self.rows.starts)):
            for column in range(len(self.columns.starts)):
                yield row, column

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    def place(self, row: int, column: int) -> Placed:
        """Which part of a window counts, and where that lies in the scene."""
        at_edge = self.rows.is_at_edge(row) or self.columns.is_at_edge(column)
        whole = at_edge and not self.padding
        weights = self._whole_weights if whole else self._inner_weights
        row_in, row_out = _clipped(self.rows, row, 0 if whole else self.rows.delta)
        column_in, column_out = _clipped(self.columns, column, 0 if whole else self.columns.delta)
        offset = (0, 0) if whole else (self.rows.delta, self.columns.delta)
        rows = slice(row_in.start - offset[0], row_in.stop - offset[0])
        columns = slice(column_in.start - offset[1], column_in.stop - offset[1])
        return Placed((row_in, column_in), (row_out, column_out), weights[rows, columns])

    @cached_property
    def _inner_weights(self) -> Image:
        return self._weights(self.rows.delta, self.columns.delta)

    @cached_property
    def _whole_weights(self) -> Image:
        return self._weights(0, 0)

    def _weights(self, row_delta: int, column_delta: int) -> Image:
        if len(self) == 1:
            # Nothing is blended: the output stays as it is, to the last bit.
            shape = (self.rows.crop - 2 * row_delta, self.columns.crop - 2 * column_delta)
            return np.ones(shape, np.float32)
        rows, columns = _ramps(self.rows, row_delta), _ramps(self.columns, column_delta)
        return rows[:, None] * columns[None, :] + np.float32(LEAST_WEIGHT)


def make_tiling(
    size: tuple[int, int],
    crop: tuple[int, int],
    stride: int | None = None,
    delta: int | None = None,
    padding: bool = True,
    any_size: bool = False,
) -> Tiling:
    """Lay windows over a scene.

    A scene that is no larger than a window gets one window, as TerraTorch runs its model once on
    such an image as it is. A model of a fixed size needs all of a window: what lacks at the bottom
    and on the right is reflected, and left out of the map again. A scene that is smaller than a
    window in one direction only is padded there likewise (TerraTorch fails on it).

    Args:
        size: Height and width of the scene.
        crop: Height and width of a window.
        stride: Pixels from one window to the next; None for TerraTorch's 192 of 224, in proportion.
        delta: Border of a window that does not count; None for TerraTorch's 8 of 224, in
            proportion, or what the stride leaves.
        padding: Whether to pad the scene by reflection.
        any_size: Whether the model takes a scene that is smaller than a window as it is.

    Raises:
        ValueError: If the stride is not 1 to the size of a window, or the border is so wide that
            pixels between two windows would be in none.
    """
    least = min(crop)
    if stride is not None and not 1 <= stride <= least:
        raise ValueError(
            f"stride must be 1 to the size of a window, {least}, got {stride}: a longer one leaves "
            "pixels out"
        )
    strides = [stride or max(1, round(side * DEFAULT_STRIDE / DEFAULT_CROP)) for side in crop]
    most = min((side - step) // 2 for side, step in zip(crop, strides, strict=True))
    if delta is not None and not 0 <= delta <= most:
        raise ValueError(
            f"delta must be 0 to {most}, half of what windows of {least} px overlap with a stride "
            f"of {strides[0]}, got {delta}: choose a smaller one, or a smaller stride"
        )
    border = min(round(least * DEFAULT_DELTA / DEFAULT_CROP), most) if delta is None else delta
    alone = size[0] <= crop[0] and size[1] <= crop[1]
    if alone:
        border, crop = 0, (size if any_size else crop)
    before = border if padding and not alone else 0
    rows, columns = (
        Axis(pixels, side, step, border, before)
        for pixels, side, step in zip(size, crop, strides, strict=True)
    )
    return Tiling(rows, columns, padding)


def reflected(positions: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Positions before and after a scene as those that a mirror at its edge pixels shows.

    Args:
        positions: Of any pixels.
        size: Pixels of the scene.
    """
    if size == 1:
        return np.zeros_like(positions)
    period = 2 * (size - 1)
    folded = np.abs(positions) % period
    mirrored: NDArray[np.int64] = np.minimum(folded, period - folded)
    return mirrored


def _ramps(axis: Axis, delta: int) -> Image:
    """Weights along a window: 1, and down to its ends by half a wave of the cosine."""
    weights = np.ones(axis.crop - 2 * delta, np.float32)
    overlap = min(axis.crop // 2, axis.crop - axis.stride) - delta
    if overlap > 0:
        steps = np.arange(1, overlap + 1, dtype=np.float32)
        ramp = np.cos(np.float32(math.pi) * steps / np.float32(overlap + 1)) / 2 + np.float32(0.5)
        weights[:overlap] = ramp[::-1]
        weights[-overlap:] = ramp
    return weights


def _clipped(axis: Axis, index: int, border: int) -> tuple[slice, slice]:
    """Pixels of a window that count and lie on the scene: of the window, and of the scene."""
    start = axis.starts[index] - axis.before
    first = max(start + border, 0)
    stop = min(start + axis.crop - border, axis.size)
    return slice(first - start, stop - start), slice(first, stop)
