"""Grids of pixels: where the files of a scene lie on each other, and reading one from another's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Self

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import CRSError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from terratorch_simpler.tiles.archives import outside

Image = NDArray[np.float32]
Flags = NDArray[np.bool_]

ON_GRID = 0.01
"""Pixels: what lies less far off is on the grid. Coordinates are not exact to the last digit."""


@dataclass(frozen=True)
class Box:
    """A part of a grid, in pixels that need not be whole.

    Attributes:
        top: First row.
        left: First column.
        height: Rows.
        width: Columns.
    """

    top: float
    left: float
    height: float
    width: float


@dataclass(frozen=True)
class Grid:
    """The pixels of a raster.

    Attributes:
        crs: Coordinate system, or None.
        transform: From columns and rows to coordinates.
        height: Rows.
        width: Columns.
    """

    crs: Any
    transform: Affine
    height: int
    width: int

    @classmethod
    def of(cls, source: Any) -> Self:
        """The grid of an open raster."""
        return cls(source.crs, source.transform, source.height, source.width)

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in squared units of its coordinate system."""
        return abs(self.transform.determinant)

    def along(self, other: Grid) -> Affine | None:
        """From pixels of another grid to pixels of this one; None if they are warped or turned."""
        if self.crs != other.crs:
            return None
        step = ~self.transform * other.transform
        off = max(abs(step.b) * other.height, abs(step.d) * other.width)
        return step if off < ON_GRID and step.a > 0 and step.e > 0 else None

    def covers(self, other: Grid) -> bool:
        """Whether any of another grid's pixels lies on this one."""
        step = self.along(other)
        if step is not None:
            left, top = step * (0, 0)
            right, bottom = step * (other.width, other.height)
            return bool(left < self.width and top < self.height and right > 0 and bottom > 0)
        if self.crs is None or other.crs is None:
            return False
        try:
            left, bottom, right, top = transform_bounds(self.crs, other.crs, *self.bounds)
        except CRSError:
            return False
        if not np.isfinite((left, bottom, right, top)).all():
            return False
        west, south, east, north = other.bounds
        return bool(left < east and right > west and bottom < north and top > south)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Least and greatest coordinates: left, bottom, right, top."""
        corners = [
            self.transform * (column, row) for column in (0, self.width) for row in (0, self.height)
        ]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


@contextmanager
def open_raster(path: str) -> Iterator[Any]:
    """Open a raster for reading, with the mask (``.msk``) that may lie beside it on disk.

    TerraTorch has GDAL look at no other file (``GDAL_DISABLE_READDIR_ON_OPEN=EMPTY_DIR``), which
    saves requests to a server, and would hide that mask.
    """
    far = "://" in path or (path.startswith("/vsi") and outside(path) == path)
    look = {} if far else {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}
    with rasterio.Env(**look), rasterio.open(path) as source:
        yield source


def read_box(
    source: Any,
    indexes: list[int],
    grid: Grid,
    row: int,
    column: int,
    shape: tuple[int, int],
    nearest: bool,
) -> tuple[Image, Flags]:
    """Read a rectangle of a grid from an open raster, resampled where it has a grid of its own.

    Args:
        source: The raster.
        indexes: Its bands, counted from 1.
        grid: The grid.
        row: First row of the rectangle.
        column: First column.
        shape: Rows and columns.
        nearest: Resample by the nearest pixel, as classes need; else between pixels.

    Returns:
        Values [bands, rows, columns], and which are valid: the raster's own no-data value and masks
        say so, and where it does not reach there are none.
    """
    resampling = Resampling.nearest if nearest else Resampling.bilinear
    step = Grid.of(source).along(grid)
    if step is not None:
        left, top = step * (column, row)
        box = Box(_whole(top), _whole(left), _whole(shape[0] * step.e), _whole(shape[1] * step.a))
        return _read_along(source, indexes, box, shape, resampling)
    has_fill = source.nodata is not None or ColorInterp.alpha in source.colorinterp
    with WarpedVRT(
        source,
        crs=grid.crs,
        transform=grid.transform,
        height=grid.height,
        width=grid.width,
        resampling=resampling,
        add_alpha=not has_fill,
    ) as warped:
        window = Window(column, row, shape[1], shape[0])
        values = warped.read(indexes, window=window, out_dtype="float32")
        return values, warped.read_masks(indexes, window=window) > 0


def _whole(pixels: float) -> float:
    """The nearest whole number, where that is as good as where it is."""
    return float(round(pixels)) if abs(pixels - round(pixels)) < ON_GRID else pixels


def _read_along(
    source: Any, indexes: list[int], box: Box, shape: tuple[int, int], resampling: Resampling
) -> tuple[Image, Flags]:
    values = np.zeros((len(indexes), *shape), np.float32)
    valid = np.zeros((len(indexes), *shape), bool)
    rows = _inside(box.top, box.height, source.height, shape[0])
    columns = _inside(box.left, box.width, source.width, shape[1])
    if rows is None or columns is None:
        return values, valid
    window = Window(
        box.left + columns.start * box.width / shape[1],
        box.top + rows.start * box.height / shape[0],
        len(columns) * box.width / shape[1],
        len(rows) * box.height / shape[0],
    )
    how = {"window": window, "out_shape": (len(indexes), len(rows), len(columns))}
    place = np.s_[:, rows.start : rows.stop, columns.start : columns.stop]
    values[place] = source.read(indexes, out_dtype="float32", resampling=resampling, **how)
    valid[place] = source.read_masks(indexes, resampling=Resampling.nearest, **how) > 0
    return values, valid


def _inside(start: float, length: float, total: int, size: int) -> range | None:
    """Which of ``size`` steps through a length lie between 0 and a total."""
    step = length / size
    first = max(0, ceil(-start / step - ON_GRID))
    last = min(size, floor((total - start) / step + ON_GRID))
    return range(first, last) if first < last else None
