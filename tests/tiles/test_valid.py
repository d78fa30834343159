"""Pixels that are no measurements: what a file says of them, and what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window

import terratorch_simpler as simpler
from terratorch_simpler.tiles.geotiff import GeoTiffTiles
from terratorch_simpler.tiles.scenes import Pixels
from terratorch_simpler.tiles.valid import FILL, ONE_VALUE, clean
from tests.rasters import BANDS, landscape, write_band_files, write_raster, write_tiles

SAMPLES = Path(simpler.__file__).parent / "samples"


def problem(image: NDArray[Any], min_valid: float = 0.9) -> str | None:
    every = np.ones(image.shape[1:], bool)
    return clean(Pixels(image.astype(np.float32), every), min_valid)[1]


def filled(value: float, share: float, bands: int = 6) -> NDArray[np.float32]:
    image = landscape(bands, 64)
    image[:, :, : round(64 * share)] = value
    return image


@pytest.mark.parametrize("value", [1, 255, -9999, 65535, 1e20, -3.4028235e38, 0.5])
def test_fill_that_no_tag_declares(value: float) -> None:
    assert problem(filled(value, 0.5)) == FILL
    image = filled(value, 1 / 8)
    assert problem(image) == FILL
    usable, reason = clean(Pixels(image, np.ones((64, 64), bool)), 0.5)
    assert reason is None
    np.testing.assert_allclose(usable[:, 0, 0], image[:, :, 8:].mean(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_array_equal(usable[:, :, 8:], image[:, :, 8:])


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("value", [0, 7, -9999])
def test_a_chip_of_one_constant_is_empty(value: float, bands: int) -> None:
    assert problem(np.full((bands, 64, 64), value)) is not None


def test_a_band_of_one_constant_makes_a_chip_empty() -> None:
    image = landscape(6)
    image[4] = 10_000
    assert problem(image) == ONE_VALUE
    image[4, 5, 5] = 9_999
    assert problem(image) is None


def test_bands_that_agree_here_and_there_are_measurements() -> None:
    """Grey pixels, also many, and an even band: no square of one number in all bands."""
    grey = landscape(1, 64).repeat(3, axis=0)
    assert problem(grey) is None
    water = landscape(3, 64)
    water[0, :, :32] = 12
    assert problem(water) is None
    lake = landscape(1, 64)
    lake[:, :, :32] = 37
    assert problem(lake) is None


@pytest.mark.slow
def test_filled_scenes_choose_as_the_chips_without_fill(tmp_path: Path) -> None:
    """The embedded sample with 30 % of every scene filled: similarity and decision are those of
    the chips that are whole."""
    scenes = sorted((SAMPLES / "train" / "images").glob("*.tif"))[:24]
    for scene in scenes:
        with rasterio.open(scene) as source:
            image, profile = source.read(), source.profile
        image[:, :, : round(0.3 * image.shape[2])] = 12345
        with rasterio.open(tmp_path / scene.name, "w", **profile) as target:
            target.write(image)
    weights = {"pretrained": True, "ckpt_path": str(SAMPLES / "prithvi_eo_v2_tiny_tl.pt")}
    name = "prithvi_eo_v2_tiny_tl"
    how: dict[str, Any] = {"progress": False, "accelerator": "cpu", **weights}
    plan = simpler.select(name, GeoTiffTiles(tmp_path, BANDS, size=64), **how)
    whole = [chip for chip in plan.tiles.names if chip.endswith("64:128]")]
    assert (len(whole), plan.tiles.used, plan.tiles.dropped) == (48, 48, 48)
    assert plan.tiles.left_out[0].reason == FILL

    def read(chip: str) -> NDArray[np.float32]:
        scene, _, box = chip.removesuffix("]").partition("[")
        row, column = (int(edge.partition(":")[0]) for edge in box.split(","))
        with rasterio.open(SAMPLES / "train" / "images" / scene) as source:
            return np.asarray(source.read(window=Window(column, row, 64, 64)), np.float32)

    chips = np.stack([read(chip) for chip in plan.tiles.names])
    means, stds = (
        np.array(values)[:, None, None] for values in (plan.tiles.means, plan.tiles.stds)
    )
    batches = torch.split(torch.from_numpy(((chips - means) / stds).astype(np.float32)), 8)
    without = simpler.select(name, list(batches), **how)
    np.testing.assert_allclose(plan.similarity, without.similarity, atol=1e-5)
    assert (plan.depth, plan.depth_shares) == (without.depth, without.depth_shares)


# What files say of themselves


def write_masked(path: Path, how: str, seed: int) -> None:
    """A tile whose left half its mask leaves out; the values there look like others."""
    image = landscape(3, 64, seed=seed)
    valid = np.ones((64, 64), np.uint8) * 255
    valid[:, :32] = 0
    crs = None if "no place" in how else "EPSG:32633"
    if how.startswith("alpha"):
        write_raster(path, np.concatenate([image, valid[None]]), crs=crs)
        with rasterio.open(path, "r+") as target:
            target.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * 2, ColorInterp.alpha]
        return
    write_raster(path, image, crs=crs)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=how.startswith("internal")),
        rasterio.open(path, "r+") as target,
    ):
        target.write_mask(valid)
    assert path.with_suffix(".tif.msk").exists() == how.startswith("beside")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "how",
    [
        *("internal", "internal, no place", "beside", "beside, no place"),
        *("alpha", "alpha, no place"),
    ],
)
@pytest.mark.parametrize("beside", [None, "EMPTY_DIR"])
def test_masks_of_files(
    tmp_path: Path, how: str, beside: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where GDAL is told to look at no file beside, as TerraTorch tells it."""
    monkeypatch.delenv("GDAL_DISABLE_READDIR_ON_OPEN", raising=False)
    for index in range(4):
        write_masked(tmp_path / f"tile_{index}.tif", how, index)
    if beside is not None:
        monkeypatch.setenv("GDAL_DISABLE_READDIR_ON_OPEN", beside)
    tiles = GeoTiffTiles(tmp_path, BANDS[:3], size=32)
    names = [name for batch in tiles for name in batch["filename"]]
    assert len(names) == 8
    assert all(name.endswith(",32:64]") for name in names)
    assert tiles.dropped == {"mostly nodata": 8}


@pytest.mark.parametrize("nodata", [-3.4028234663852886e38, 3.4028234663852886e38, -9999.0])
def test_nodata_at_the_limit_of_its_type_hides_nothing(tmp_path: Path, nodata: float) -> None:
    write_tiles(tmp_path, 4, bands=3, nodata=nodata, dtype="float32")
    (batch,) = GeoTiffTiles(tmp_path, BANDS[:3], size=64)
    assert len(batch["image"]) == 4


@pytest.mark.parametrize("holes", ["B02", "B04"])
def test_nodata_of_one_band_file_counts(tmp_path: Path, holes: str) -> None:
    image = landscape(3, 128)
    for position, band in enumerate(["B02", "B03", "B04"]):
        if band == holes:
            image[position, :, 64:] = 65535
        nodata = 65535 if band == holes else None
        write_band_files(tmp_path, "x", {band: image[position]}, 128, nodata=nodata)
    tiles = GeoTiffTiles(tmp_path, BANDS[:3], size=32)
    assert max(float(batch["image"].max()) for batch in tiles) < 10_000
    assert tiles.dropped == {"mostly nodata": 8}
