"""Tiny data laid out as the real data sets are: ``python -m studies.paper.layout --output DATA``.

File names, folders, types, sizes and units are those of the archives; the pixels are waves and the
labels stripes, so that nothing can be learned from them.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Collection, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

Array = NDArray[Any]
COUNTS = {"train": 4, "val": 2, "test": 2}
"""Images a split: ``select`` wants four."""
MADOS_BANDS = {
    10: (492, 560, 665, 833), 20: (704, 740, 783, 865, 1614, 2202), 60: (443,),
}  # fmt: skip
"""Wavelengths by resolution, for Sentinel-2A."""
BIGEARTHNET_BANDS = {
    120: ("B02", "B03", "B04", "B08"), 60: ("B05", "B06", "B07", "B8A", "B11", "B12"),
    20: ("B01", "B09"),
}  # fmt: skip
"""By height and width in pixels."""
BIGEARTHNET_LABELS = (
    "Arable land",
    "Coniferous forest",
    "Mixed forest",
    "Pastures",
    "Inland waters",
)
SEN4MAP_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
SEN4MAP_LABELS = ("A11", "B11", "C10", "E20", "G11")


def waves(size: int, seed: int, bands: int | None = None) -> Array:
    """Waves between 0 and 1 of shape [size, size], or [bands, size, size]."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    shape = (bands or 1, 1, 1)
    along = random.uniform(-9, 9, shape) * rows + random.uniform(-9, 9, shape) * columns
    image: Array = 0.5 + 0.4 * np.sin(along + random.uniform(0, 6, shape))
    image = image + random.uniform(-0.1, 0.1, image.shape)
    return image if bands else np.asarray(image[0])


def mados(root: Path) -> None:
    """``MADOS/Scene_N/{10,20,60}/Scene_N_L2R_*.tif`` and the lists in ``splits``."""
    folder = root / "MADOS"
    (folder / "splits").mkdir(parents=True)
    for scene, (split, count) in enumerate(COUNTS.items()):
        name = f"Scene_{scene}"
        for crop in range(count):
            seed = 100 * scene + crop
            for resolution, wavelengths in MADOS_BANDS.items():
                for wavelength in wavelengths:
                    band = 0.12 * waves(2400 // resolution, seed + wavelength)
                    band[:1, :1] = np.nan
                    path = folder / name / str(resolution)
                    file = path / f"{name}_L2R_rhorc_{wavelength}_{crop}.tif"
                    _write(file, band.astype(np.float32))
            # Sparse labels: 0 is none, in three of four columns.
            columns = np.arange(240)
            label = np.where(columns % 4 == 0, (columns // 4 + seed) % 15 + 1, 0)
            label = np.broadcast_to(label, (240, 240)).astype(np.uint8)
            for kind in ("cl", "conf", "rep"):
                file = folder / name / "10" / f"{name}_L2R_{kind}_{crop}.tif"
                _write(file, label if kind == "cl" else np.minimum(label, 1))
        listed = "".join(f"{name}_{crop}\n" for crop in range(count))
        (folder / "splits" / f"{split}_X.txt").write_text(listed)


def bigearthnet(root: Path) -> None:
    """Folders of Sentinel-2 and Sentinel-1 patches and of maps, and ``metadata.parquet``."""
    folder = root / "BigEarthNetV2"
    rows = []
    for number, split in enumerate(_splits({"val": "validation"})):
        scene = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
        radar = "S1A_IW_GRDH_1SDV_20170613T165043"
        place = f"{number}_57"
        patch, echo = f"{scene}_{place}", f"{radar}_33UUP_{place}"
        for size, bands in BIGEARTHNET_BANDS.items():
            for band in bands:
                waved = 400 + 3000 * waves(size, 1000 * number + int(band[1], 16))
                file = folder / "BigEarthNet-S2" / scene / patch / f"{patch}_{band}.tif"
                _write(file, waved.astype(np.uint16), placed=True)
        for band in ("VH", "VV"):
            image = (-25 + 20 * waves(120, number)).astype(np.float32)
            _write(
                folder / "BigEarthNet-S1" / radar / echo / f"{echo}_{band}.tif", image, placed=True
            )
        codes = np.array([211, 312, 313, 231, 512], np.uint16)
        cover = np.broadcast_to(codes[np.arange(120) // 24], (120, 120))
        path = folder / "Reference_Maps" / scene / patch / f"{patch}_reference_map.tif"
        _write(path, np.ascontiguousarray(cover), placed=True)
        labels = [name for i, name in enumerate(BIGEARTHNET_LABELS) if (number + i) % 2]
        rows.append(
            {
                "patch_id": patch, "labels": labels, "split": split, "country": "Austria",
                "s1_name": echo, "s2v1_name": patch, "contains_seasonal_snow": False,
                "contains_cloud_or_shadow": False,
            }
        )  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "metadata.parquet")


def sen4map(root: Path) -> None:
    """``{train,val,test}.h5`` with a compound data set a place: two dates a month of 64 px."""
    folder = root / "Sen4Map"
    folder.mkdir(parents=True)
    dates = [f"{month:02}{day:02}" for month, day in product(range(1, 13), (7, 22))]
    shape = (len(dates), 64, 64)
    kinds = np.dtype([*((band, np.uint16) for band in SEN4MAP_BANDS), ("SCL", np.uint8)])
    for split, count in COUNTS.items():
        with h5py.File(folder / f"{split}.h5", "w") as file:
            for number in range(count):
                series = np.zeros(shape, kinds)
                for index, band in enumerate(SEN4MAP_BANDS):
                    image = 400 + 3000 * waves(64, 100 * number + index, len(dates))
                    series[band] = image.astype(np.uint16)
                # Vegetation; clouds on every fifth date.
                series["SCL"] = 4
                series["SCL"][::5] = 9
                place = file.create_dataset(f"{split}_{number:08}", data=series)
                place.attrs["lc1"] = SEN4MAP_LABELS[number % len(SEN4MAP_LABELS)]
                names = [f"S2A_MSIL2A_2018{date}T101031" for date in dates]
                place.attrs.create("Image_ID", names, dtype=h5py.string_dtype())


def cifar100(root: Path) -> None:
    """``cifar-100-python/{train,test,meta}``: pickles of rows of pixels, red, green and blue."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for split, count in (("train", 20), ("test", 10)):
        pictures = [255 * waves(32, seed, 3).clip(0, 1) for seed in range(count)]
        held = {
            "filenames": [f"picture_{number}.png" for number in range(count)],
            "batch_label": f"{split}ing batch 1 of 1",
            "fine_labels": [7 * number % 100 for number in range(count)],
            "coarse_labels": [number % 20 for number in range(count)],
            "data": np.stack(pictures).reshape(count, -1).astype(np.uint8),
        }
        (folder / split).write_bytes(pickle.dumps(held, protocol=2))
    meta = {"fine_label_names": [f"class_{number}" for number in range(100)]}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "mados": mados,
    "bigearthnet_v2": bigearthnet,
    "sen4map": sen4map,
    "cifar100": cifar100,
}


def _splits(names: dict[str, str]) -> Iterator[str]:
    for split, count in COUNTS.items():
        yield from [names.get(split, split)] * count


def _write(path: Path, band: Array, *, placed: bool = False) -> None:
    """Write a band of 1200 m, with its place on the map or without one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = band.shape
    place = {"crs": "EPSG:32633", "transform": from_origin(4e5, 5.8e6, 1200 / width, 1200 / height)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", count=1, height=height, width=width, dtype=band.dtype,
            **(place if placed else {}),
        ) as file:  # fmt: skip
            file.write(band, 1)


def lay_out(output: Path, names: Collection[str] = tuple(LAYOUTS)) -> None:
    """Lay data sets out, those that are not there yet.

    Args:
        output: Folder to make: what the rows take as ``--data``.
        names: Which, of :data:`LAYOUTS`.
    """
    for name in names:
        # A mark, so that a layout that was cut short is not taken for one.
        mark = output / f".{name}"
        if not mark.exists():
            LAYOUTS[name](output)
            mark.touch()


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(lay_out, as_positional=False)
