"""Tiny GeoTIFFs for tests: seeded, with the structure of a landscape, in every layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from terratorch_simpler.tiles.geotiff import GeoTiffTiles

BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
"""What the small Prithvi reads, in order."""

UTM_33 = "EPSG:32633"
CORNER = (400_000.0, 5_800_000.0)


def landscape(
    bands: int = 6, height: int = 64, width: int | None = None, seed: int = 0
) -> NDArray[np.float32]:
    """Reflectance x 10000 of shape [bands, height, width]: waves a few dozen pixels long, fields
    with straight edges, and a little noise; no two pixels of a band are likely to be the same."""
    width = height if width is None else width
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    image = np.empty((bands, height, width))
    for band in image:
        angle, phase = random.uniform(0, np.pi), random.uniform(0, 2 * np.pi)
        along = rows * np.sin(angle) + columns * np.cos(angle)
        fields = random.uniform(-1, 1, (height // 16 + 1, width // 16 + 1))
        band[:] = (
            random.uniform(1200, 2500)
            + 300 * np.sin(2 * np.pi * along / random.uniform(20, 60) + phase)
            + 400 * fields[rows // 16, columns // 16]
            + random.normal(0, 60, (height, width))
        )
    return np.clip(np.round(image), 1, 10_000).astype(np.float32)


def read(tiles: GeoTiffTiles) -> dict[str, NDArray[np.float32]]:
    """Every image of one iteration by its name, in order."""
    return {
        name: image.numpy()
        for batch in tiles
        for name, image in zip(batch["filename"], batch["image"], strict=True)
    }


def corner(name: str) -> tuple[str, int, int]:
    """Scene, row and column of a chip's name."""
    scene, _, box = name.removesuffix("]").rpartition("[")
    rows, columns = box.split(",")
    return scene, int(rows.split(":")[0]), int(columns.split(":")[0])


def write_raster(
    path: Path,
    image: NDArray[Any],
    *,
    dtype: str = "uint16",
    crs: str | None = UTM_33,
    corner: tuple[float, float] = CORNER,
    resolution: float | tuple[float, float] = 10.0,
    nodata: float | None = None,
    descriptions: Sequence[str] | None = None,
) -> Path:
    """Write an image [bands, height, width] as a GeoTIFF; folders are made.

    Args:
        path: File to write.
        image: Its values.
        dtype: Type in the file.
        crs: Coordinate system; with None there is neither it nor a transform.
        corner: Upper left corner, x and y.
        resolution: Side of a pixel, or width and height of one.
        nodata: The file's nodata value.
        descriptions: One description a band.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    x_size, y_size = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    place = {} if crs is None else {"crs": crs, "transform": from_origin(*corner, x_size, y_size)}
    profile = {
        "driver": "GTiff",
        "count": image.shape[0],
        "height": image.shape[1],
        "width": image.shape[2],
        "dtype": dtype,
        "nodata": nodata,
    }
    with rasterio.open(path, "w", **profile, **place) as target:
        target.write(image.astype(dtype))
        for band, description in enumerate(descriptions or [], 1):
            target.set_band_description(band, description)
    return path


def write_tiles(folder: Path, count: int = 6, size: int = 64, bands: int = 6, **how: Any) -> Path:
    """Fill a folder with tiles ``tile_0.tif``, ..., side by side on the map; gives the folder."""
    for index in range(count):
        corner = (CORNER[0] + index * size * 10.0, CORNER[1])
        image = landscape(bands, size, seed=index)
        write_raster(folder / f"tile_{index}.tif", image, **{"corner": corner} | how)
    return folder


def write_band_files(
    folder: Path, scene: str, images: Mapping[str, NDArray[Any]], pixels: int, **how: Any
) -> list[Path]:
    """Write one file a band, ``<scene>_<band>.tif``.

    Args:
        folder: Where to.
        scene: What the scene is called.
        images: Values [height, width] by the band part of the file name; those with half the
            pixels get twice the resolution.
        pixels: Height of the bands of 10 m.
        **how: As for :func:`write_raster`.
    """
    return [
        write_raster(
            folder / f"{scene}_{band}.tif",
            image[None],
            **{"resolution": 10.0 * pixels / image.shape[0]} | how,
        )
        for band, image in images.items()
    ]


def truncate(path: Path, keep: float = 0.5) -> Path:
    """Cut the end of a file off, as an interrupted download does; the header stays."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path
