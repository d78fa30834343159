"""Reading one file on the grid of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as to_other

from terratorch_simpler.tiles.geotiff import GeoTiffTiles
from terratorch_simpler.tiles.grid import Flags, Grid, read_box
from terratorch_simpler.tiles.scenes import APART
from tests.rasters import CORNER, UTM_33, landscape, write_band_files, write_raster

RGB = ["BLUE", "GREEN", "RED"]


def box(path: Path, grid: Grid, row: int, column: int, size: int) -> tuple[NDArray[Any], Flags]:
    with rasterio.open(path) as source:
        values, valid = read_box(source, [1], grid, row, column, (size, size), nearest=False)
    return values[0], valid[0]


def grid(pixels: int = 64, metres: float = 10, right: float = 0, down: float = 0) -> Grid:
    corner = Affine.translation(CORNER[0] + right, CORNER[1] - down)
    return Grid(
        rasterio.CRS.from_string(UTM_33), corner * Affine.scale(metres, -metres), pixels, pixels
    )


@pytest.mark.parametrize("off", [1e-11, -1e-11, 1e-6, 0.004])
def test_nothing_is_resampled_where_pixels_are_off_by_a_hair(tmp_path: Path, off: float) -> None:
    """A fill pixel would take its neighbour's value, and a NaN spread."""
    image = landscape(1, 64)
    image[0, 10, 10] = np.nan
    path = write_raster(tmp_path / "x.tif", image, dtype="float32")
    values, valid = box(path, grid(right=off * 10, down=off * 10), 8, 8, 16)
    np.testing.assert_array_equal(values, image[0, 8:24, 8:24])
    assert valid.all() or not valid[2, 2]


def test_coarser_pixels_lie_between_their_neighbours(tmp_path: Path) -> None:
    image = landscape(1, 32)
    path = write_raster(tmp_path / "x.tif", image, resolution=20.0)
    values, valid = box(path, grid(), 16, 16, 32)
    assert valid.all()
    near = image[0, 8:24, 8:24].repeat(2, 0).repeat(2, 1)
    assert np.abs(values - near).mean() < 0.5 * near.std()
    with rasterio.open(path) as source:
        window = rasterio.windows.Window(8, 8, 16, 16)
        how = {"window": window, "out_shape": (32, 32), "resampling": Resampling.bilinear}
        np.testing.assert_allclose(values, source.read(1, **how), atol=0.51)


@pytest.mark.parametrize(("row", "column"), [(-8, 0), (0, -8), (56, 0), (0, 56), (-8, 56)])
@pytest.mark.parametrize("metres", [10.0, 20.0])
def test_where_a_file_does_not_reach_nothing_is_valid(
    tmp_path: Path, row: int, column: int, metres: float
) -> None:
    pixels = round(640 / metres)
    path = write_raster(tmp_path / "x.tif", landscape(1, pixels), resolution=metres)
    # A larger grid around the file.
    around = grid(128, 10, -320, -320)
    values, valid = box(path, around, row + 32, column + 32, 16)
    rows, columns = np.arange(row, row + 16), np.arange(column, column + 16)
    inside = ((rows >= 0) & (rows < 64))[:, None] & ((columns >= 0) & (columns < 64))[None]
    np.testing.assert_array_equal(valid, inside)
    assert (values[~valid] == 0).all()
    assert (values[valid] > 0).all()


def test_another_zone_is_warped(tmp_path: Path) -> None:
    """The same ground in the zone beside: where it was warped there and back, it is the same."""
    image = landscape(1, 128)
    path = write_raster(tmp_path / "x.tif", image)
    with (
        rasterio.open(path) as source,
        WarpedVRT(source, crs="EPSG:32632", resampling=Resampling.bilinear) as warped,
    ):
        profile = warped.profile | {"driver": "GTiff", "nodata": 0}
        with rasterio.open(tmp_path / "y.tif", "w", **profile) as target:
            target.write(warped.read())
    values, valid = box(tmp_path / "y.tif", grid(128), 32, 32, 64)
    assert valid.all()
    inner = image[0, 32:96, 32:96]
    assert np.corrcoef(values.ravel(), inner.ravel())[0, 1] > 0.9


# Scenes of band files


def write_scene(folder: Path, name: str, **odd: Any) -> None:
    """Three bands; ``odd`` says where the last one lies."""
    image = landscape(3, 64)
    write_band_files(folder, name, {"B02": image[0], "B03": image[1]}, 64)
    write_band_files(folder, name, {"B04": image[2]}, 64, **odd)


NORTH_33 = to_other("EPSG:32633", "EPSG:4326", [CORNER[0]], [CORNER[1]])


@pytest.mark.parametrize(
    "odd",
    [
        {"corner": (CORNER[0] + 100_000, CORNER[1])},
        {"crs": "EPSG:32733"},
        {"crs": "EPSG:4326", "resolution": 1e-4, "corner": (100.0, -52.0)},
        {"crs": "EPSG:4326", "resolution": 10.0},
        {"crs": None},
    ],
    ids=[
        "far off",
        "other half of the earth",
        "degrees elsewhere",
        "out of its domain",
        "no place",
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_band_files_apart_leave_a_scene_out(tmp_path: Path, odd: dict[str, Any]) -> None:
    for index in range(3):
        write_scene(tmp_path, f"good_{index}")
    write_scene(tmp_path, "odd", **odd)
    tiles = GeoTiffTiles(tmp_path, RGB, size=32)
    names = [name for batch in tiles for name in batch["filename"]]
    assert len(names) == 12
    assert not any(name.startswith("odd") for name in names)
    (left,) = tiles.tally.left_out()
    assert (left.reason, left.chips, left.scenes) == (APART, 0, ["odd"])


def test_degrees_are_not_compared_with_metres(tmp_path: Path) -> None:
    """One band in degrees, whose pixels have a small number for a side, sets no grid."""
    for index in range(4):
        place = {"crs": "EPSG:4326", "resolution": (1.44e-4, 9e-5)}
        write_scene(tmp_path, f"x_{index}", corner=(NORTH_33[0][0], NORTH_33[1][0]), **place)
    tiles = GeoTiffTiles(tmp_path, RGB, size=32)
    for batch in tiles:
        for image in batch["image"].numpy():
            assert image.shape == (3, 32, 32)
    assert tiles.open(0).grid.crs == rasterio.CRS.from_string(UTM_33)


def test_the_grid_is_that_of_the_bands_asked_for(tmp_path: Path) -> None:
    image = landscape(3, 64)
    write_band_files(tmp_path, "LC08_x", dict(zip(["B2", "B3", "B4"], image, strict=True)), 64)
    write_band_files(tmp_path, "LC08_x", {"B8": landscape(1, 128)[0]}, 64)
    (batch,) = GeoTiffTiles(tmp_path, RGB, size=32)
    assert len(batch["image"]) == 4
