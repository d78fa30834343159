"""Folders as Sentinel-2, Landsat and HLS are delivered: the right bands, the rest left out."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from terratorch_simpler.tiles.geotiff import GeoTiffTiles
from tests.deliveries import (
    ETM_L1,
    LANDSAT_PIXELS,
    OLI_L1,
    OLI_L2,
    TM_L1,
    TM_L2,
    write_hls,
    write_landsat,
    write_layer,
    write_safe,
    zip_up,
)
from tests.rasters import BANDS, corner, read

SIZE = 32
RGB = BANDS[:3]
S2_FILES = ["B02", "B03", "B04", "B8A", "B11", "B12"]
OLI_FILES = ["B2", "B3", "B4", "B5", "B6", "B7"]
TM_FILES = ["B1", "B2", "B3", "B4", "B5", "B7"]
ANGLES = ["SAA", "SZA", "VAA", "VZA"]

LANDSAT: dict[str, tuple[str, list[str], list[str]]] = {
    "OLI, C2 level 2": (
        "LC08_L2SP_193024_202004{day}_20200822_02_T1",
        OLI_L2,
        ["QA_PIXEL", "QA_RADSAT", "SR_QA_AEROSOL", "ST_B10", "ST_ATRAN", "ST_CDIST", "ST_QA"],
    ),
    "OLI-2, C2 level 1": (
        "LC09_L1TP_193024_202204{day}_20220822_02_T1",
        OLI_L1,
        ["QA_PIXEL", "QA_RADSAT", *ANGLES],
    ),
    "OLI, before collections": ("LC819302420132{day}LGN00", OLI_L1, ["BQA"]),
    "ETM+, C2 level 1": (
        "LE07_L1TP_193024_200004{day}_20200918_02_T1",
        ETM_L1,
        ["QA_PIXEL", "QA_RADSAT", *ANGLES],
    ),
    "ETM+, before collections": ("LE719302420002{day}EDC00", ETM_L1, []),
    "TM, C2 level 2": (
        "LT05_L2SP_193024_199004{day}_20200916_02_T1",
        TM_L2,
        ["QA_PIXEL", "QA_RADSAT", "SR_ATMOS_OPACITY", "SR_CLOUD_QA", "ST_B6", "ST_EMIS"],
    ),
    "TM, before collections": ("LT519302419902{day}KIS00", TM_L1, []),
    "TM of Landsat 4": (
        "LT04_L1TP_193024_198904{day}_20200916_02_T1",
        TM_L1,
        ["QA_PIXEL", "QA_RADSAT", *ANGLES],
    ),
}
"""Product, bands and other layers, with two digits of the day to be filled in."""


def landsat(folder: Path, layout: str, days: Sequence[int] = (11, 12, 13)) -> list[str]:
    product, bands, others = LANDSAT[layout]
    named = [product.format(day=day) for day in days]
    for name, day in zip(named, days, strict=True):
        write_landsat(folder, name, bands, day, others)
    return named


def by_hand(file: Path, row: int, column: int, per_pixel: float, size: int = SIZE) -> NDArray[Any]:
    """A window of one band file, as rasterio reads it, on a grid that is so many times finer."""
    with rasterio.open(file) as source:
        corner = column / per_pixel, row / per_pixel
        window = Window(*corner, size / per_pixel, size / per_pixel)
        how = Resampling.nearest if per_pixel == 1 else Resampling.bilinear
        values = source.read(1, window=window, out_shape=(size, size), resampling=how)
        return np.asarray(values)


def check_windows(images: dict[str, Any], endings: list[str], folder: Path) -> None:
    """Each band is the plain window of its file, whose name is the scene's and an ending."""
    for name, image in images.items():
        scene, row, column = corner(name)
        for band, ending in zip(image, endings, strict=True):
            expected = by_hand(folder / f"{scene}{ending}", row, column, 1)
            np.testing.assert_array_equal(band, expected)


@pytest.mark.parametrize("layout", LANDSAT)
def test_landsat(layout: str, tmp_path: Path) -> None:
    scenes = landsat(tmp_path, layout)
    tiles = GeoTiffTiles(tmp_path, BANDS, size=SIZE)
    images = read(tiles)
    # The panchromatic band is not asked for: the grid is that of 30 m.
    assert len(images) == 3 * (LANDSAT_PIXELS // SIZE) ** 2
    assert {corner(name)[0] for name in images} == {f"{scene}/{scene}" for scene in scenes}
    codes = OLI_FILES if layout.startswith("OLI") else TM_FILES
    files = [f"SR_{code}" if "level 2" in layout else code for code in codes]
    check_windows(images, [f"_{file}.TIF" for file in files], tmp_path)
    (taken,) = tiles.tally.taken(BANDS)
    assert list(taken.bands.values()) == files
    assert taken.sensor == ("Landsat 8-9" if layout.startswith("OLI") else "Landsat 4-7")
    assert (taken.scenes, tiles.dropped) == (3, {})
    layers = [name for name in LANDSAT[layout][2] if name != "QA_PIXEL" and "_B" not in name]
    assert len(tiles.other_files) == 3 * len(layers)


def test_modis(tmp_path: Path) -> None:
    scenes = [f"MOD09A1.A20200{day}.h18v03.061.2020073223344" for day in (41, 49, 57)]
    bands = [f"sur_refl_b0{number}" for number in range(1, 8)]
    layers = ["sur_refl_qc_500m", "sur_refl_state_500m", "sur_refl_day_of_year", "sur_refl_szen"]
    values = np.random.default_rng(0).integers(100, 4000, (3, 11, 64, 64))
    for scene, of_scene in zip(scenes, values, strict=True):
        for layer, pixels in zip([*bands, *layers], of_scene, strict=True):
            write_layer(tmp_path / f"{scene}_{layer}.tif", pixels, 500, "int16", nodata=-28672)
    tiles = GeoTiffTiles(tmp_path, BANDS, size=SIZE)
    images = read(tiles)
    assert len(images) == 3 * 4
    numbers = (3, 4, 1, 2, 6, 7)
    check_windows(images, [f"_sur_refl_b0{number}.tif" for number in numbers], tmp_path)
    (taken,) = tiles.tally.taken(BANDS)
    assert taken.sensor == "MODIS"
    assert len(tiles.other_files) == 3 * len(layers)


@pytest.mark.parametrize("sensor", ["S30", "L30"])
def test_hls(sensor: str, tmp_path: Path) -> None:
    for day in (1, 2):
        write_hls(tmp_path, sensor, day)
    tiles = GeoTiffTiles(tmp_path, BANDS, size=SIZE)
    images = read(tiles)
    files = S2_FILES if sensor == "S30" else [f"B0{i}" for i in range(2, 8)]
    assert len(images) == 8
    check_windows(images, [f".{file}.tif" for file in files], tmp_path)
    (taken,) = tiles.tally.taken(BANDS)
    assert taken.sensor == ("Sentinel-2" if sensor == "S30" else "Landsat 8-9")
    assert taken.scaling == "scale 0.0001, offset 0"
    assert len(tiles.other_files) == 8


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentinel-2 of both levels, from before and after baseline 04.00."""
    folder = tmp_path_factory.mktemp("sentinel")
    for level in ("L1C", "L2A"):
        for day, baseline in ((1, "0214"), (2, "0400"), (3, "0510")):
            write_safe(folder / level, day, level, baseline)
    return folder


@pytest.mark.parametrize("level", ["L1C", "L2A"])
def test_sentinel_2(products: Path, level: str) -> None:
    tiles = GeoTiffTiles(products / level, BANDS, size=SIZE)
    images = read(tiles)
    assert len(images) == 27
    for name, image in images.items():
        scene, row, column = corner(name)
        folder, tile = (products / level / scene).parent, Path(scene).name
        for band, file in zip(image, S2_FILES, strict=True):
            fine = file in ("B02", "B03", "B04")
            where, ending = folder / f"{tile}_{file}.jp2", ""
            if level == "L2A":
                ending = "10m" if fine else "20m"
                where = folder / f"R{ending}" / f"{tile}_{file}_{ending}.jp2"
            expected = by_hand(where, row, column, 1 if fine else 2)
            np.testing.assert_allclose(band, expected, atol=0 if fine else 0.51)
    taken = tiles.tally.taken(BANDS)
    assert {one.sensor for one in taken} == {"Sentinel-2"}
    assert {one.scaling for one in taken} == {
        None,
        "offset -1000 (processing baseline 04.00)",
        "offset -1000 (processing baseline 05.10)",
    }


def test_bands_of_20_m_alone_are_read_as_they_are(products: Path) -> None:
    tiles = GeoTiffTiles(products / "L2A", ["SWIR_2", "RED_EDGE_1"], size=20)
    images = read(tiles)
    assert len(images) == 27
    for name, image in images.items():
        scene, row, column = corner(name)
        folder, tile = (products / "L2A" / scene).parent, Path(scene).name
        for band, file in zip(image, ("B12", "B05"), strict=True):
            where = folder / "R20m" / f"{tile}_{file}_20m.jp2"
            np.testing.assert_array_equal(band, by_hand(where, row, column, 1, 20))


@pytest.mark.slow
def test_zipped_products_are_read_like_folders(products: Path, tmp_path: Path) -> None:
    (tmp_path / "zips").mkdir()
    for product in (products / "L2A").iterdir():
        zip_up(product, tmp_path / "zips" / f"{product.stem}.zip")
    plain = list(read(GeoTiffTiles(products / "L2A", BANDS, size=SIZE)).values())
    zipped = GeoTiffTiles(tmp_path / "zips", BANDS, size=SIZE)
    images = read(zipped)
    for image, wanted in zip(images.values(), plain, strict=True):
        np.testing.assert_array_equal(image, wanted)
    assert all(name.startswith("S2A_MSIL2A_") for name in images)
    first = next(iter(sorted((tmp_path / "zips").iterdir())))
    for one in (str(first), f"/vsizip/{first}", f"/vsizip/{first}/{first.stem}.SAFE"):
        assert len(read(GeoTiffTiles(one, BANDS, size=SIZE))) == 9


@pytest.mark.parametrize("layout", ["OLI, C2 level 2", "TM of Landsat 4", "HLS"])
def test_bundles_of_landsat_and_hls_are_read_like_folders(layout: str, tmp_path: Path) -> None:
    """A Landsat bundle has no folder in it; its name is that of the product."""
    if layout == "HLS":
        granules = [write_hls(tmp_path / "plain", "L30", day) for day in (1, 2, 3)]
    else:
        granules = [tmp_path / "plain" / name for name in landsat(tmp_path / "plain", layout)]
    (tmp_path / "packed").mkdir()
    for granule in granules:
        if layout == "HLS":
            zip_up(granule, tmp_path / "packed" / f"{granule.name}.zip")
            continue
        with tarfile.open(tmp_path / "packed" / f"{granule.name}.tar", "w") as bundle:
            for file in granule.iterdir():
                bundle.add(file, file.name)
    plain = read(GeoTiffTiles(tmp_path / "plain", BANDS, size=SIZE))
    packed = read(GeoTiffTiles(tmp_path / "packed", BANDS, size=SIZE))
    assert len(packed) == 12
    for image, wanted in zip(packed.values(), plain.values(), strict=True):
        np.testing.assert_array_equal(image, wanted)


def test_an_archive_that_is_damaged_is_named(tmp_path: Path) -> None:
    write_hls(tmp_path, "L30")
    for ending in ("zip", "tar"):
        (tmp_path / f"cut.{ending}").write_bytes(b"PK\x03\x04 and no more")
        with pytest.raises(ValueError, match=rf"cut.{ending} is not an archive that can be read"):
            GeoTiffTiles(tmp_path, BANDS, size=SIZE)
        (tmp_path / f"cut.{ending}").unlink()


def hidden_by_hand(kind: str, values: NDArray[Any]) -> NDArray[np.bool_]:
    """A naive mask: pixel by pixel, from the providers' tables."""
    hidden = np.zeros(values.shape, bool)
    for index, value in np.ndenumerate(values):
        if kind == "scl":
            hidden[index] = int(value) in {1, 3, 8, 9, 10, 11}
        elif kind == "fmask":
            hidden[index] = any(int(value) >> bit & 1 for bit in range(5))
        else:
            hidden[index] = any(int(value) >> bit & 1 for bit in range(6))
    return hidden


@pytest.mark.parametrize("kind", ["scl", "fmask", "qa_pixel"])
def test_quality_layers_mask(kind: Any, products: Path, tmp_path: Path) -> None:
    if kind == "scl":
        folder, layer = products / "L2A", "*_SCL_20m.jp2"
    elif kind == "fmask":
        folder, layer = tmp_path, "*.Fmask.tif"
        for day in (1, 2, 3):
            write_hls(tmp_path, "S30", day)
    else:
        folder, layer = tmp_path, "*_QA_PIXEL.TIF"
        landsat(tmp_path, "OLI, C2 level 2")
    every = read(GeoTiffTiles(folder, RGB, size=SIZE))
    kept = GeoTiffTiles(folder, RGB, size=SIZE, mask=kind)
    images = read(kept)
    layers = {re.split(r"_SCL|.Fmask|_QA", file.name)[0]: file for file in folder.rglob(layer)}
    finer = 2 if kind == "scl" else 1
    for name, image in every.items():
        scene, row, column = corner(name)
        with rasterio.open(layers[Path(scene).name]) as source:
            classes = source.read(1).repeat(finer, axis=0).repeat(finer, axis=1)
        hidden = hidden_by_hand(kind, classes[row : row + SIZE, column : column + SIZE])
        if hidden.mean() > 0.1:
            assert name not in images
            continue
        np.testing.assert_array_equal(images[name][:, ~hidden], image[:, ~hidden])
        if hidden.any():
            mean = image[:, ~hidden].mean(axis=1)
            filled = images[name][:, hidden]
            np.testing.assert_allclose(filled, np.tile(mean[:, None], filled.shape[1]), rtol=1e-5)
    assert kept.dropped == {"mostly cloud, shadow or snow": len(every) - len(images)}
    assert 0 < len(images) < len(every)


def test_a_mask_that_is_not_there(tmp_path: Path) -> None:
    write_hls(tmp_path, "S30")
    with pytest.raises(ValueError, match=r"has no SCL file beside its bands, which mask 'scl'"):
        GeoTiffTiles(tmp_path, RGB, size=SIZE, mask="scl")
    with pytest.raises(ValueError, match="mask must be scl, fmask, qa_pixel or left out, got 'clo"):
        GeoTiffTiles(tmp_path, RGB, size=SIZE, mask="cloud")  # type: ignore[arg-type]
