from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from terratorch_simpler.predicting.bands import open_scene
from terratorch_simpler.predicting.scene import SceneRows, fills, open_rows
from terratorch_simpler.predicting.windows import Tiling, make_tiling
from terratorch_simpler.results.deployment import Deployment
from terratorch_simpler.tiles.products import find_scenes
from tests.predicting.models import deployment
from tests.rasters import BANDS, landscape, truncate, write_band_files, write_raster

Array = NDArray[Any]


def rows_of(
    paths: list[Path], record: Deployment, **how: Any
) -> Iterator[tuple[Tiling, SceneRows, int]]:
    """Each row of windows of a scene."""
    (files,) = find_scenes([str(path) for path in paths]).scenes
    scene = open_scene(files, record)
    tiling = make_tiling((scene.height, scene.width), (32, 32), **how)
    with open_rows(scene, tiling.rows, record) as rows:
        for row in range(len(tiling.rows.starts)):
            rows.move(row)
            yield tiling, rows, row


def read_back(paths: list[Path], record: Deployment) -> tuple[Array, Array, int]:
    """All pixels by their windows, where there is data, and how many values had none."""
    image: Array = np.empty(0)
    known: Array = np.empty(0)
    for tiling, rows, row in rows_of(paths, record):
        if not image.size:
            size = tiling.rows.size, tiling.columns.size
            image, known = np.full((6, *size), np.nan), np.zeros(size, bool)
        for column in range(len(tiling.columns.starts)):
            placed = tiling.place(row, column)
            window = rows.cut(tiling.columns.pixels(column))
            if window is not None:
                image[:, *placed.outside] = window[:, *placed.inside]
        first, end = tiling.rows.starts[row], tiling.rows.done(row)
        known[first:end] = rows.known(first, end)
    return image, known, rows.filled


@pytest.mark.parametrize("size", [(20, 20), (32, 32), (20, 90), (90, 20), (75, 131)])
@pytest.mark.parametrize("how", [{}, {"padding": False}, {"stride": 7, "delta": 0}])
def test_windows_are_those_of_the_reflected_scene(
    size: tuple[int, int], how: dict[str, Any], tmp_path: Path
) -> None:
    image = landscape(6, *size)
    path = write_raster(tmp_path / "s.tif", image)
    padded = np.pad(image, [(0, 0), (40, 40), (40, 40)], mode="reflect")
    for tiling, rows, row in rows_of([path], deployment(), **how):
        for column, start in enumerate(tiling.columns.starts):
            window = rows.cut(tiling.columns.pixels(column))
            assert window is not None
            top = 40 + tiling.rows.starts[row] - tiling.rows.before
            left = 40 + start - tiling.columns.before
            assert (window == padded[:, top : top + 32, left : left + 32]).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_values_are_those_of_the_file(dtype: str, tmp_path: Path) -> None:
    image = np.round(landscape(6, 60, 75) / 100)
    path = write_raster(tmp_path / "s.tif", image, dtype=dtype)
    found, known, filled = read_back([path], deployment())
    assert (found == image).all()
    assert known.all()
    assert filled == 0


def test_a_big_tiff_is_a_tiff(tmp_path: Path) -> None:
    image = landscape(6, 40)
    path = tmp_path / "s.tif"
    how = {"count": 6, "height": 40, "width": 40, "dtype": "uint16", "bigtiff": "yes"}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", **how) as target,
    ):
        target.write(image.astype("uint16"))
    assert path.read_bytes()[:4] == b"II+\0"
    assert (read_back([path], deployment())[0] == image).all()


def test_a_value_without_data_is_replaced_in_its_band(tmp_path: Path) -> None:
    image = landscape(6, 40)
    image[2, 3, 4] = image[:, 10, 11] = -1
    path = write_raster(tmp_path / "s.tif", image, dtype="int16", nodata=-1)
    found, known, filled = read_back([path], deployment(no_data_replace=7.0))
    expected = np.where(image == -1, 7, image)
    assert (found == expected).all()
    assert filled == 7
    # A pixel is without data where all of its bands are.
    assert np.argwhere(~known).tolist() == [[10, 11]]


def test_numbers_that_are_not_finite_are_without_data(tmp_path: Path) -> None:
    image = landscape(6, 40)
    image[0, 5, 5], image[1, 6, 6], image[:, 7, 7] = np.nan, np.inf, -9999
    path = write_raster(tmp_path / "s.tif", image, dtype="float32")
    record = deployment(no_data=-9999, no_data_replace=0.5)
    found, known, filled = read_back([path], record)
    lacks = ~np.isfinite(image) | (image == -9999)
    assert (found == np.where(lacks, 0.5, image)).all()
    assert filled == lacks.sum() == 8
    assert np.argwhere(~known).tolist() == [[7, 7]]


def test_means_take_the_place_of_data_where_the_record_names_nothing() -> None:
    means = tuple(float(band) for band in range(6))
    assert fills(deployment(means=means, stds=(1.0,) * 6)) == means
    assert fills(deployment(frames=2)) == (0.0,) * 12
    assert fills(deployment(no_data_replace=3.0)) == (3.0,) * 6


@pytest.mark.parametrize("how", ["mask", "alpha", "alpha and nodata"])
def test_masks_say_where_there_is_no_data(how: str, tmp_path: Path) -> None:
    image = landscape(6, 40)
    opaque = np.ones((40, 40), bool)
    opaque[:9] = False
    path = tmp_path / "s.tif"
    if how == "mask":
        write_raster(path, image)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as source:
            source.write_mask(opaque)
    else:
        stacked = np.concatenate([image, 255 * opaque[None]])
        write_raster(path, stacked, nodata=1 if "nodata" in how else None)
        with rasterio.open(path, "r+") as source:
            source.colorinterp = [ColorInterp.gray] * 6 + [ColorInterp.alpha]
    found, known, _ = read_back([path], deployment(no_data_replace=3.0))
    assert (known == opaque).all()
    assert (found[:, opaque] == image[:, opaque]).all()


def test_windows_without_data_are_left_out(tmp_path: Path) -> None:
    image = np.zeros((6, 90, 90))
    image[:, 87:, 87:] = 5
    path = write_raster(tmp_path / "s.tif", image, nodata=0)
    cut = [
        rows.cut(tiling.columns.pixels(column)) is not None
        for tiling, rows, _ in rows_of([path], deployment())
        for column in range(len(tiling.columns.starts))
    ]
    assert sum(cut) == 1
    assert cut[-1]


def test_bands_of_other_files_and_resolutions_are_read_on_one_grid(tmp_path: Path) -> None:
    image = landscape(6, 64)
    images: dict[str, Array] = {band: image[i] for i, band in enumerate(BANDS)}
    images["SWIR_1"] = np.full((32, 32), 700.0)
    paths = write_band_files(tmp_path, "field", images, 64)
    found, known, _ = read_back(paths, deployment())
    assert known.all()
    assert (found[:4] == image[:4]).all()
    assert (found[4] == 700).all()
    assert (found[5] == image[5]).all()


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = truncate(write_raster(tmp_path / "s.tif", landscape(6, 200)))
    with pytest.raises(ValueError, match=r"s\.tif could not be read .* truncated or damaged"):
        read_back([path], deployment())
