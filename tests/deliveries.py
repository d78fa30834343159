"""Folders of scenes as their providers deliver them, with all layers, small and seeded."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from tests.rasters import CORNER, UTM_33, landscape

PIXELS = 120
"""Pixels of 10 m along a side of a Sentinel-2 scene, a multiple of 6."""
LANDSAT_PIXELS = 64

S2_10M = ["B02", "B03", "B04", "B08"]
S2_20M = ["B05", "B06", "B07", "B8A", "B11", "B12"]
S2_60M = ["B01", "B09"]
HLS_ANGLES = ["SAA", "SZA", "VAA", "VZA"]
S30 = ["B01", *(f"B{i:02d}" for i in range(2, 10)), "B8A", "B10", "B11", "B12"]
L30 = [*(f"B{i:02d}" for i in range(1, 8)), "B09", "B10", "B11"]
OLI_L1 = [f"B{i}" for i in range(1, 12)]
OLI_L2 = [f"SR_B{i}" for i in range(1, 8)]
ETM_L1 = ["B1", "B2", "B3", "B4", "B5", "B6_VCID_1", "B6_VCID_2", "B7", "B8"]
TM_L1 = [f"B{i}" for i in range(1, 8)]
TM_L2 = ["SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7"]


def write_layer(
    path: Path, values: NDArray[Any], metres: float, dtype: str = "uint16", **profile: Any
) -> None:
    """Write one layer [height, width] or a picture [3, height, width]; JPEG 2000 without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = values[None] if values.ndim == 2 else values
    lossless = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    driver = lossless if path.suffix == ".jp2" else {"driver": "GTiff"}
    count, height, width = values.shape
    with rasterio.open(
        path,
        "w",
        count=count,
        height=height,
        width=width,
        dtype=dtype,
        crs=UTM_33,
        transform=from_origin(*CORNER, metres, metres),
        **driver,
        **profile,
    ) as target:
        target.write(values.astype(dtype))


def _band(pixels: int, seed: int, low: float = 0.0) -> NDArray[Any]:
    return np.asarray(landscape(1, pixels, seed=seed)[0] + low)


def write_safe(
    folder: Path, day: int = 1, level: str = "L2A", baseline: str = "0214", metres: int = 10
) -> Path:
    """One Sentinel-2 product as the Copernicus Data Space gives it; its ``.SAFE`` folder.

    Args:
        folder: Where to.
        day: Of August 2020: makes names and values different.
        level: L1C or L2A.
        baseline: Processing baseline; from 04.00 on, 1000 is added to all values.
        metres: Metres of the finest bands, so that a scene can be small.
    """
    taken = f"202008{day:02d}T100559"
    tile = f"T33UUU_{taken}"
    name = f"S2A_MSI{level}_{taken}_N{baseline}_R022_T33UUU_{taken}.SAFE"
    granule = folder / name / "GRANULE" / f"{level}_T33UUU_A026987_{taken}"
    added = 1000.0 if int(baseline) >= 400 else 0.0
    sides = {10: PIXELS, 20: PIXELS // 2, 60: PIXELS // 6}

    def write(layer: str, resolution: int, place: str, picture: bool = False) -> None:
        side = sides[resolution]
        values = _band(side, seed=seed_of(layer, day), low=added)
        if layer == "SCL":
            values = np.random.default_rng(day).choice([4, 5, 6, 7], (side, side))
            values[: side // 4] = [3, 8, 9, 11][day % 4]
        if picture:
            values = np.asarray(landscape(3, side, seed=day) / 16)
        file = granule / place / f"{tile}_{layer}{f'_{resolution}m' if level == 'L2A' else ''}.jp2"
        eight_bit = picture or layer == "SCL"
        write_layer(file, values, resolution * metres / 10, "uint8" if eight_bit else "uint16")

    if level == "L1C":
        for resolution, bands in ((10, S2_10M), (20, S2_20M), (60, [*S2_60M, "B10"])):
            for band in bands:
                write(band, resolution, "IMG_DATA")
        write("TCI", 10, "IMG_DATA", picture=True)
    else:
        for resolution, bands in (
            (10, S2_10M),
            (20, [*S2_10M[:3], *S2_20M, "SCL"]),
            (60, [*S2_10M[:3], *S2_20M, *S2_60M, "SCL"]),
        ):
            for band in [*bands, "AOT", "WVP"]:
                write(band, resolution, f"IMG_DATA/R{resolution}m")
            write("TCI", resolution, f"IMG_DATA/R{resolution}m", picture=True)
        for mask in ("MSK_CLDPRB_20m", "MSK_SNWPRB_20m"):
            write_layer(granule / "QI_DATA" / f"{mask}.jp2", _band(60, day) / 100, 20, "uint8")
    write_layer(
        granule / "QI_DATA" / f"{tile}_PVI.jp2", landscape(3, 24, seed=day) / 16, 320, "uint8"
    )
    (folder / name / f"MTD_MSI{level}.xml").write_text("<metadata/>")
    return folder / name


def seed_of(layer: str, day: int) -> int:
    """A seed for the values of a layer of one day."""
    return 1000 * day + sum(map(ord, layer))


def write_landsat(
    folder: Path, product: str, bands: Sequence[str], day: int = 1, others: Sequence[str] = ()
) -> Path:
    """One Landsat product in a folder of its own; the panchromatic band has pixels of 15 m.

    Args:
        folder: Where to.
        product: Its identifier, which begins the names of its files.
        bands: Bands, as the end of these names.
        day: Makes values different.
        others: Other layers; ``QA_PIXEL`` and ``BQA`` get clouds.
    """
    for band in bands:
        pan = band == "B8"
        side = 2 * LANDSAT_PIXELS if pan else LANDSAT_PIXELS
        values = _band(side, seed=seed_of(band, day))
        write_layer(folder / product / f"{product}_{band}.TIF", values, 15 if pan else 30, nodata=0)
    for layer in others:
        flags = np.full((LANDSAT_PIXELS, LANDSAT_PIXELS), 21824)
        # Cloud, a little cloud shadow, and snow of Collection 2, in three corners.
        for bit, place in ((3, np.s_[:16, :16]), (4, np.s_[:8, -8:]), (5, np.s_[-16:, :16])):
            flags[place] += 1 << bit
        write_layer(folder / product / f"{product}_{layer}.TIF", flags, 30)
    (folder / product / f"{product}_MTL.txt").write_text("GROUP = LANDSAT_METADATA_FILE")
    return folder / product


def write_hls(folder: Path, sensor: str, day: int = 1) -> Path:
    """One HLS v2.0 granule of ``S30`` or ``L30`` in a folder of its own."""
    granule = f"HLS.{sensor}.T33UUU.2020{233 + day}T100601.v2.0"
    for band in S30 if sensor == "S30" else L30:
        values = _band(LANDSAT_PIXELS, seed=seed_of(band, day))
        path = folder / granule / f"{granule}.{band}.tif"
        write_layer(path, values, 30, "int16", nodata=-9999)
        with rasterio.open(path, "r+") as target:
            target.scales = (0.0001,)
    for angle in HLS_ANGLES:
        write_layer(folder / granule / f"{granule}.{angle}.tif", _band(LANDSAT_PIXELS, day), 30)
    fmask = np.random.default_rng(day).choice([0b0100_0000, 0b1010_0000], (LANDSAT_PIXELS,) * 2)
    fmask[:16, :16] |= [0b0010, 0b1000, 0b1_0000, 0b0100][day % 4]
    write_layer(folder / granule / f"{granule}.Fmask.tif", fmask, 30, "uint8", nodata=255)
    return folder / granule


def zip_up(folder: Path, archive: Path) -> Path:
    """Put a folder into an archive."""
    with zipfile.ZipFile(archive, "w") as target:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                target.write(file, file.relative_to(folder.parent).as_posix())
    return archive
