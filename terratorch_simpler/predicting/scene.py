"""Pixels of a scene: its rows, each read once from top to bottom, and where it has data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from terratorch_simpler.messages import one_line
from terratorch_simpler.predicting.windows import Axis
from terratorch_simpler.results.deployment import Deployment
from terratorch_simpler.tiles.grid import Flags, Grid, Image, open_raster, read_box
from terratorch_simpler.tiles.scenes import Scene

CACHE = 256_000_000
"""Bytes of blocks that GDAL keeps: those of a row of them, so that each is decoded once."""


@dataclass(frozen=True)
class Georeference:
    """Where a scene lies.

    Attributes:
        crs: Coordinate system, or None.
        transform: From columns and rows to coordinates.
        gcps: Ground control points, and their coordinate system.
        rpcs: Rational polynomial coefficients, or None.
    """

    crs: Any
    transform: Any
    gcps: tuple[Sequence[Any], Any]
    rpcs: Any

    @classmethod
    def of(cls, scene: Scene) -> Self:
        """That of the file whose pixels are the scene's."""
        for path in dict.fromkeys(path for path, _ in scene.places):
            with open_raster(path) as source:
                if Grid.of(source) == scene.grid:
                    return cls(source.crs, source.transform, source.gcps, source.rpcs)
        raise AssertionError("the scene's grid is that of one of its files")

    @property
    def is_known(self) -> bool:
        """Whether anything says where the scene lies."""
        return self.crs is not None or bool(self.gcps[0]) or self.rpcs is not None


def fills(deployment: Deployment) -> tuple[float, ...]:
    """What each band of all inputs, and of all time steps, has where it has no data.

    As the record says; where it says nothing the mean, which is 0 once it is normalised.
    """
    values: list[float] = []
    for entry in deployment.inputs:
        means = entry.means or (0.0,) * entry.channels
        replace = deployment.no_data_replace
        values += means if replace is None else [replace] * entry.channels
    return tuple(values) * (deployment.inputs[0].frames or 1)


class SceneRows:
    """The rows of a scene that windows of one row of them need: no more are held.

    Args:
        scene: The scene.
        sources: Its open files, by path.
        axis: The windows along its rows.
        fills: What each band has where it has no data.
        no_data: A value without data, beside what the files say.

    Attributes:
        filled: How many values had no data.
    """

    def __init__(
        self,
        scene: Scene,
        sources: dict[str, Any],
        axis: Axis,
        fills: Sequence[float],
        no_data: float | None,
    ) -> None:
        self._scene, self._sources, self._axis = scene, sources, axis
        self._fills, self._no_data = fills, no_data
        held = min(axis.crop, axis.size)
        self._values = np.empty((len(fills), held, scene.width), np.float32)
        self._known = np.empty((held, scene.width), bool)
        self._first = self._end = 0
        self._pixels = np.arange(0)
        self.filled = 0

    def move(self, row: int) -> None:
        """Go to a row of windows, not before the one where it is.

        Raises:
            ValueError: If a file cannot be read there (it is truncated, say).
        """
        pixels = self._axis.pixels(row)
        first, end = int(pixels.min()), int(pixels.max()) + 1
        kept = max(self._end - first, 0)
        skipped = first - self._first
        if kept and skipped:
            for band in (*self._values, self._known):
                band[:kept] = band[skipped : skipped + kept].copy()
        self._first = first
        if first + kept < end:
            self._read(slice(kept, end - first))
        self._end = end
        self._pixels = pixels - first

    def cut(self, columns: NDArray[np.int64]) -> Image | None:
        """A window of the present row; None where it has no data at all.

        Args:
            columns: The scene's column under each of its columns.

        Returns:
            Values in the units of the files, float32: [bands, crop, crop].
        """
        rows, left_to_right = _plain(self._pixels), _plain(columns)
        if not self._known[rows][:, left_to_right].any():
            return None
        return np.ascontiguousarray(self._values[:, rows][:, :, left_to_right])

    def known(self, first: int, end: int) -> Flags:
        """Where rows of the scene, which must be held, have data in any band: [rows, width]."""
        return self._known[first - self._first : end - self._first]

    def _read(self, rows: slice) -> None:
        """Read rows of the scene to where they are held."""
        self._known[rows] = False
        shape = (rows.stop - rows.start, self._scene.width)
        for path, source in self._sources.items():
            found = [i for i, (place, _) in enumerate(self._scene.places) if place == path]
            indexes = [self._scene.places[i][1] for i in found]
            try:
                values, valid = self._box(source, indexes, self._first + rows.start, shape)
            except (RasterioError, OSError) as error:
                raise ValueError(
                    f"{path} could not be read ({one_line(error)}): the file looks truncated or "
                    "damaged, remove or replace it"
                ) from error
            for number, band, has_data in zip(found, values, valid, strict=True):
                has_data &= np.isfinite(band)
                if self._no_data is not None:
                    has_data &= band != np.float32(self._no_data)
                lacks = ~has_data
                self.filled += int(lacks.sum())
                band[lacks] = self._fills[number]
                self._values[number, rows] = band
                self._known[rows] |= has_data

    def _box(
        self, source: Any, indexes: list[int], first: int, shape: tuple[int, int]
    ) -> tuple[Image, Flags]:
        grid = self._scene.grid
        values, valid = read_box(source, indexes, grid, first, 0, shape, nearest=False)
        # GDAL's masks leave an alpha band out where the file names a no-data value as well.
        alphas = [i + 1 for i, role in enumerate(source.colorinterp) if role == ColorInterp.alpha]
        for alpha in alphas:
            opaque, _ = read_box(source, [alpha], grid, first, 0, shape, nearest=True)
            valid &= opaque > 0
        return values, valid


@contextmanager
def open_rows(scene: Scene, axis: Axis, deployment: Deployment) -> Iterator[SceneRows]:
    """Open a scene to read its rows."""
    with rasterio.Env(GDAL_CACHEMAX=CACHE), ExitStack() as stack:
        sources = {
            path: stack.enter_context(open_raster(path))
            for path in dict.fromkeys(path for path, _ in scene.places)
        }
        yield SceneRows(scene, sources, axis, fills(deployment), deployment.no_data)


def _plain(positions: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Positions as a slice, which copies nothing, where they follow each other."""
    first, last = int(positions[0]), int(positions[-1])
    follows = last - first + 1 == len(positions) and (np.diff(positions) == 1).all()
    return slice(first, last + 1) if follows else positions
