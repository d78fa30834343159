"""Lay out the study's data as chips and labels: ``python -m studies.measure.data SOURCES OUTPUT``.

``SOURCES`` holds the data sets as README.md beside this file lists them. ``OUTPUT`` receives one
folder a data set, with ``{train,val,test}/images`` and a folder for each kind of label. Splits are
by place: neighbouring chips are never on two sides of one.
"""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

Array = NDArray[np.generic]
IGNORE = 255
GEWATA_CHIP, DUBAI_CHIP = 96, 112
MIN_LABELLED = 0.2
"""Share of a chip's pixels."""
SHOWS_ITS_FLOOD = 0.1
"""Gap of the water index between mask and surroundings from which the image shows the flood."""
WORLDCOVER = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)
DUBAI_CLASSES = ("#8429F6", "#E2A929", "#3C1098", "#FEDD3A", "#6EC1E4")
"""Land, water, building, vegetation, road."""
DUBAI_SPLIT = {1: "train", 2: "val", 3: "train", 4: "test", 5: "train", 6: "train", 7: "test"}
"""By tile, which is one scene; the eighth is for testing as well."""
DUBAI_LARGE = (7, 8)
"""Of these every fourth chip is enough."""


@dataclass(frozen=True)
class Chip:
    """One chip: its image [bands, H, W] and its label maps [H, W] by kind."""

    split: str
    name: str
    image: Array
    labels: dict[str, Array]


def hls_flood(source: Path) -> Iterator[Chip]:
    """Flood chips whose image shows the flood: water, and the classes of ESA WorldCover."""
    with (source / "index.csv").open(newline="") as file:
        # No gap is named where there is next to no water, or nothing else.
        rows = [
            row for row in csv.DictReader(file) if float(row["mndwi_gap"] or 1) > SHOWS_ITS_FLOOD
        ]
    for row in rows:
        name = row["chip"]
        cover = _read(source / "aux" / f"{name}.tif")[1]
        water = np.asarray(Image.open(source / "labels" / f"{name}.png"))
        labels = {"water": water, "worldcover": _classes(cover, WORLDCOVER)}
        yield Chip(row["split"], name, _read(source / "images" / f"{name}.tif"), labels)


def gewata(source: Path) -> Iterator[Chip]:
    """A Landsat scene in chips, the west for training, the east for testing: cover and trees."""
    image = _read(source / "gewata_LE7_2001036_SR.tif")
    cover = _read(source / "gewata_lulc2011.tif")[0]
    trees = _read(source / "gewata_vcf2000_treecover.tif")[0]
    landcover = np.where(cover == 0, IGNORE, cover - 1).astype(np.uint8)
    treecover = np.where(trees == 255, np.float32(-9999), trees.astype(np.float32) / 100)
    _, height, width = image.shape
    columns = width // GEWATA_CHIP
    for top in range(0, height - GEWATA_CHIP + 1, GEWATA_CHIP):
        for column in range(columns):
            left = column * GEWATA_CHIP
            window = np.s_[top : top + GEWATA_CHIP, left : left + GEWATA_CHIP]
            if (landcover[window] != IGNORE).mean() < MIN_LABELLED:
                continue
            share = (column + 1) / columns
            split = "train" if share <= 0.5 else "val" if share <= 0.65 else "test"
            name, chip = f"{top:04d}_{left:04d}", image[(slice(None), *window)]
            yield Chip(
                split, name, chip, {"landcover": landcover[window], "treecover": treecover[window]}
            )


def dubai(source: Path) -> Iterator[Chip]:
    """Aerial scenes at half their resolution in chips, split by tile."""
    for tile in range(1, 9):
        for path in sorted((source / f"Tile {tile}" / "images").glob("*.jpg")):
            image = np.asarray(Image.open(path).convert("RGB").reduce(2))
            colours = Image.open(source / f"Tile {tile}" / "masks" / f"{path.stem}.png")
            packed = np.asarray(colours.convert("RGB")).astype(np.int64) @ [65536, 256, 1]
            codes = [int(colour[1:], 16) for colour in DUBAI_CLASSES]
            mask = _classes(packed, codes)[::2, ::2]
            step = DUBAI_CHIP * (2 if tile in DUBAI_LARGE else 1)
            for top in range(0, image.shape[0] - DUBAI_CHIP + 1, step):
                for left in range(0, image.shape[1] - DUBAI_CHIP + 1, step):
                    window = np.s_[top : top + DUBAI_CHIP, left : left + DUBAI_CHIP]
                    name = f"{tile}_{path.stem.rpartition('_')[2]}_{top:04d}_{left:04d}"
                    chip = image[window].transpose(2, 0, 1)
                    yield Chip(DUBAI_SPLIT.get(tile, "test"), name, chip, {"classes": mask[window]})


DATA_SETS: dict[str, Callable[[Path], Iterator[Chip]]] = {
    "hls_flood": hls_flood,
    "gewata": gewata,
    "dubai": dubai,
}


def lay_out(sources: Path, output: Path) -> None:
    """Write every data set that ``sources`` holds.

    Raises:
        FileExistsError: If one is there already.
    """
    for name, chips in DATA_SETS.items():
        if not (sources / name).is_dir():
            print(f"{name}: not in {sources}, left out")
            continue
        (output / name).mkdir(parents=True)
        counts = dict.fromkeys(("train", "val", "test"), 0)
        for chip in chips(sources / name):
            folder = output / name / chip.split
            _write(folder / "images" / f"{chip.name}.tif", chip.image)
            for kind, label in chip.labels.items():
                _write(folder / kind / f"{chip.name}.tif", label[None])
            counts[chip.split] += 1
        print(f"{name}: {counts}")


def _classes(codes: Array, known: tuple[int, ...] | list[int]) -> NDArray[np.uint8]:
    """Places of codes in a list; what is not in it is ignored."""
    result = np.full(codes.shape, IGNORE, np.uint8)
    for place, code in enumerate(known):
        result[codes == code] = place
    return result


def _read(path: Path) -> Array:
    with rasterio.open(path) as file:
        data: Array = file.read()
    return data


def _write(path: Path, data: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = data.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=data.dtype
    ) as file:
        file.write(data)


if __name__ == "__main__":
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    lay_out(*map(Path, sys.argv[1:]))
