"""Scenes on disk: one raster, or one file a band, read chip by chip as they are in their files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from terratorch_simpler.messages import one_line
from terratorch_simpler.tiles import Mask
from terratorch_simpler.tiles.grid import Flags, Grid, Image, open_raster, read_box
from terratorch_simpler.tiles.labels import band_positions
from terratorch_simpler.tiles.products import SceneFiles
from terratorch_simpler.tiles.quality import QUALITY_LAYERS

APART = "with band files that do not lie on each other"
_BASELINE = re.compile(r"_N(\d{4})_")
_OFFSET_SINCE = 400


class UnusableScene(Exception):
    """A scene that cannot be used; its text says why, in the plural."""


@dataclass(frozen=True)
class Chip:
    """A square of a scene: its corner in pixels from the scene's upper left."""

    row: int
    column: int


@dataclass(frozen=True)
class Pixels:
    """What a chip holds.

    Attributes:
        image: Values in the units of the file: float32, [bands, size, size].
        valid: Where every band has a value, as its file says: [size, size].
        hidden: Where a quality layer says that the ground cannot be seen; None without one.
    """

    image: Image
    valid: Flags
    hidden: Flags | None = None


@dataclass(frozen=True)
class Taken:
    """What a scene was taken for.

    Attributes:
        bands: The label, or the place in the file, of each band that was asked for.
        sensor: Whose band codes they are, where they are codes.
        scaling: Scale and offset that its files declare, which are not applied.
    """

    bands: tuple[str, ...]
    sensor: str | None
    scaling: str | None


@dataclass(frozen=True)
class _File:
    path: str
    grid: Grid
    indexes: tuple[int, ...]
    labels: tuple[str | None, ...]
    scaling: tuple[tuple[float, float], ...]


@dataclass
class Scene:
    """One scene: a raster that stacks its bands, or one file a band.

    Attributes:
        name: What it is called in plans.
        files: Its files; whatever GDAL can open.
        bands: Bands asked for, in order.
        dataset_bands: What the files hold, in order; None to go by descriptions and names.
        size: Height and width of a chip in pixels.
        mask: Which quality layer to read, if any.
        grid: Pixels of the finest of the bands that are asked for.
        taken: What it was taken for.
        places: File and index of each band that is asked for.
    """

    name: str
    files: SceneFiles
    bands: Sequence[str]
    dataset_bands: Sequence[str] | None
    size: int
    mask: Mask | None = None
    grid: Grid = field(init=False)
    taken: Taken = field(init=False)
    places: list[tuple[str, int]] = field(init=False)

    def __post_init__(self) -> None:
        """Read the headers of the files that are needed.

        Raises:
            ValueError: If a file is no raster, does not hold the bands, or lacks the mask.
            UnusableScene: If its band files do not lie on each other.
        """
        if self.files.labels is None:
            header = self._header(self.files.files[0])
            positions, sensor = self._positions(header.labels)
            places = [(header.path, header.indexes[position]) for position in positions]
            headers = {header.path: header}
        else:
            positions, sensor = self._positions(self.files.labels)
            places = [(self.files.files[position], 1) for position in positions]
            headers = {path: self._header(path) for path, _ in places}
        self.places = places
        self.grid = self._common_grid([header.grid for header in headers.values()])
        labels = self.files.labels or [
            label or f"band {number}" for number, label in enumerate(header.labels, 1)
        ]
        self.taken = Taken(
            tuple(str(labels[position]) for position in positions),
            sensor,
            self._scaling([headers[path].scaling[index - 1] for path, index in places]),
        )
        self._quality = self._quality_file()

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return self.grid.height

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return self.grid.width

    @property
    def count(self) -> int:
        """Whole chips in a grid from the upper left corner; 0 if it is smaller than a chip."""
        return (self.height // self.size) * (self.width // self.size)

    def chip(self, number: int) -> Chip:
        """A chip of the grid by its number, row by row."""
        row, column = divmod(number, self.width // self.size)
        return Chip(row * self.size, column * self.size)

    def read(self, chip: Chip) -> Pixels:
        """Read a chip, each band as its file holds it, between pixels where one is coarser.

        Raises:
            ValueError: If a file cannot be read there (it is truncated, say).
        """
        image = np.empty((len(self.bands), self.size, self.size), np.float32)
        valid = np.ones((self.size, self.size), bool)
        for path in dict.fromkeys(path for path, _ in self.places):
            found = [i for i, (place, _) in enumerate(self.places) if place == path]
            indexes = [self.places[i][1] for i in found]
            image[found], bands_valid = self._read(path, indexes, chip)
            valid &= bands_valid.all(axis=0)
        if self._quality is None:
            return Pixels(image, valid)
        classes, known = self._read(self._quality, [1], chip, nearest=True)
        assert self.mask is not None
        hidden = QUALITY_LAYERS[self.mask].hides(classes[0].astype(np.int64))
        return Pixels(image, valid, hidden | ~known[0])

    def _read(
        self, path: str, indexes: list[int], chip: Chip, nearest: bool = False
    ) -> tuple[Image, Flags]:
        try:
            with open_raster(path) as source:
                shape = (self.size, self.size)
                return read_box(source, indexes, self.grid, chip.row, chip.column, shape, nearest)
        except (RasterioError, OSError) as error:
            self._unreadable(path, error)

    def _unreadable(self, path: str, error: Exception) -> NoReturn:
        file = "" if len(self.files.files) == 1 else f" ({path.rpartition('/')[2]})"
        raise ValueError(
            f"{self.name}{file} could not be read ({one_line(error)}): the file looks truncated "
            "or damaged, remove or replace it"
        ) from error

    def _header(self, path: str) -> _File:
        try:
            with open_raster(path) as source:
                # An alpha band is a mask: it says which pixels are valid.
                held = [i for i, role in enumerate(source.colorinterp) if role != ColorInterp.alpha]
                return _File(
                    path,
                    Grid.of(source),
                    tuple(i + 1 for i in held),
                    tuple(source.descriptions[i] for i in held),
                    tuple(zip(source.scales, source.offsets, strict=True)),
                )
        except RasterioError as error:
            raise ValueError(
                f"{path} is not a raster that GDAL can read ({one_line(error)}): remove or "
                "replace it"
            ) from error

    def _positions(self, labels: Sequence[str | None]) -> tuple[list[int], str | None]:
        """Where the bands asked for are among the labels, and whose codes these are."""
        return band_positions(self.bands, labels, self.dataset_bands, self.files.name, self.name)

    def _common_grid(self, grids: Sequence[Grid]) -> Grid:
        """The finest grid, of those in the coordinate system that most are in."""
        systems = [grid.crs for grid in grids]
        most = max(systems, key=systems.count)
        finest = min((grid for grid in grids if grid.crs == most), key=lambda grid: grid.pixel_area)
        if finest.crs is None and any(grid != finest for grid in grids):
            raise ValueError(
                f"{self.name} has no coordinate system, and its band files differ in size: stack "
                "its bands in one file"
            )
        if not all(grid.covers(finest) for grid in grids):
            raise UnusableScene(APART)
        return finest

    def _scaling(self, declared: Sequence[tuple[float, float]]) -> str | None:
        pairs = sorted(set(declared) - {(1.0, 0.0)})
        said = [f"scale {scale:g}, offset {offset:g}" for scale, offset in pairs]
        baseline = _BASELINE.search(self.files.name)
        if baseline and int(baseline[1]) >= _OFFSET_SINCE:
            said.append(f"offset -1000 (processing baseline {baseline[1][:2]}.{baseline[1][2:]})")
        return "; ".join(said) or None

    def _quality_file(self) -> str | None:
        if self.mask is None:
            return None
        label = QUALITY_LAYERS[self.mask].label
        if label not in self.files.quality:
            raise ValueError(
                f"{self.name} has no {label} file beside its bands, which mask '{self.mask}' "
                "reads: add it, or leave the mask out"
            )
        return self.files.quality[label]
