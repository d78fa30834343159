"""Scenes on disk: one raster, or one file a band, read chip by chip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from terratorch_simpler.bands import BAND_FILE, band_positions
from terratorch_simpler.messages import one_line

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Chip:
    """A square of a scene: its corner in pixels from the scene's upper left."""

    row: int
    column: int


@dataclass
class Scene:
    """One scene: a raster that stacks its bands, or one file a band.

    Attributes:
        name: What it is called in plans: its path below the folder given.
        files: One file, or one a band; whatever GDAL can open.
        bands: Bands asked for, in order.
        dataset_bands: What the files hold, in order; None to go by descriptions and names.
        size: Height and width of a chip in pixels.
    """

    name: str
    files: Sequence[str]
    bands: Sequence[str]
    dataset_bands: Sequence[str] | None
    size: int
    nodata: float | None = field(init=False)
    height: int = field(init=False)
    width: int = field(init=False)
    on_map: bool = field(init=False)

    def __post_init__(self) -> None:
        """Read the headers.

        Raises:
            ValueError: If a file is no raster or does not hold the bands.
        """
        labels: list[str | None] = []
        resolutions = []
        for file in self.files:
            try:
                with rasterio.open(file) as source:
                    labels += source.descriptions
                    resolutions.append((source.res, source.shape, source.nodata, _on_map(source)))
            except RasterioError as error:
                raise ValueError(
                    f"{file} is not a raster that GDAL can read ({one_line(error)}): remove or "
                    "replace it"
                ) from error
        if len(self.files) > 1:
            labels = [_band_part(file) for file in self.files]
        self._positions = band_positions(self.bands, labels, self.dataset_bands, self.name)
        self.finest = min(range(len(resolutions)), key=lambda i: resolutions[i][0])
        _, (self.height, self.width), self.nodata, self.on_map = resolutions[self.finest]
        if not self.on_map and len(self.files) > 1:
            raise ValueError(
                f"{self.name} has no coordinate system, or is not north up: stack its bands in one "
                "file"
            )

    @property
    def count(self) -> int:
        """Whole chips in a grid from the upper left corner; 0 if it is smaller than a chip."""
        return (self.height // self.size) * (self.width // self.size)

    def chip(self, number: int) -> Chip:
        """A chip of the grid by its number, row by row."""
        row, column = divmod(number, self.width // self.size)
        return Chip(row * self.size, column * self.size)

    def read(self, chip: Chip) -> Image:
        """Read a chip.

        Returns:
            float32 array of shape [bands, size, size] in the units of the file.

        Raises:
            ValueError: If the file cannot be read there (it is truncated, say).
        """
        try:
            return self._read_map(chip) if self.on_map else self._read_pixels(chip)
        except (RasterioError, OSError) as error:
            self._unreadable(error)

    def _unreadable(self, error: Exception) -> NoReturn:
        raise ValueError(
            f"{self.name} could not be read ({one_line(error)}): the file looks truncated or "
            "damaged, remove or replace it"
        ) from error

    def _read_pixels(self, chip: Chip) -> Image:
        with rasterio.open(self.files[0]) as source:
            window = Window(chip.column, chip.row, self.size, self.size)
            indexes = [position + 1 for position in self._positions]
            image: Image = source.read(indexes, window=window).astype(np.float32)
            return image

    def _read_map(self, chip: Chip) -> Image:
        # torchgeo indexes by map coordinates and gives the size back by resolution.
        xs, ys = self._dataset.bounds[:2]
        x_res, y_res = self._dataset.res
        left = xs.start + chip.column * x_res
        top = ys.stop - chip.row * y_res
        query = slice(left, left + self.size * x_res), slice(top - self.size * y_res, top)
        image: Image = self._dataset[query]["image"].numpy()
        return image

    @cached_property
    def _dataset(self) -> Any:
        from torchgeo.datasets import RasterDataset

        if len(self.files) > 1:
            stems = [_band_part(file) for file in self.files]
            match = _band_match(self.files[0])
            regex = re.escape(match["scene"]) + r"[_.](?P<band>" + "|".join(stems) + r")\..+"
        else:
            stems = [str(position) for position in range(max(self._positions) + 1)]
            regex = ".*"
        layout = {
            "filename_regex": regex,
            "all_bands": tuple(stems),
            "separate_files": len(self.files) > 1,
        }
        dataset = type("SceneDataset", (RasterDataset,), layout)
        # The finest file sets the resolution that the others are resampled to.
        wanted = [stems[position] for position in self._positions]
        # Torchgeo's cache belongs to the class: it keeps the files of 128 scenes open.
        return dataset(paths=[self.files[self.finest]], bands=wanted, cache=False)

    def __getstate__(self) -> dict[str, Any]:
        """Without torchgeo's dataset: its class is made here, and no other process knows it."""
        return {key: value for key, value in self.__dict__.items() if key != "_dataset"}


def _on_map(source: Any) -> bool:
    """Whether a raster lies north up in a coordinate system, as torchgeo takes for granted."""
    grid = source.transform
    return source.crs is not None and grid.b == grid.d == 0 and grid.a > 0 > grid.e


def _band_match(file: str) -> re.Match[str]:
    match = BAND_FILE.fullmatch(file.rpartition("/")[2])
    assert match is not None
    return match


def _band_part(file: str) -> str:
    return _band_match(file)["band"]
