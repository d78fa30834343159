"""MADOS as it lies in its archive: a folder a scene, in it one a resolution, a file a band a crop.

Kikaki, Kakogeorgiou, Hoteit, Karantzalos, *Detecting Marine Pollutants and Sea Surface Features
with Deep Learning in Sentinel-2 Imagery*, ISPRS Journal of Photogrammetry and Remote Sensing, 2024.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from torch.utils.data import Dataset

from studies.paper.datamodule import PaperDataModule, Sample, Split, Tiles, channels_of

BANDS = [
    "COASTAL_AEROSOL", "BLUE", "GREEN", "RED", "RED_EDGE_1", "RED_EDGE_2", "RED_EDGE_3",
    "NIR_BROAD", "NIR_NARROW", "SWIR_1", "SWIR_2",
]  # fmt: skip
"""In order of wavelength, which files are named by; Sentinel-2A's and 2B's differ by some nm."""
RESOLUTIONS = (10, 20, 60)
SCALE = 10_000.0
"""From reflectance to the units that the backbones were pre-trained in."""
_CROP = re.compile(r"(?P<scene>.+)_(?P<crop>\d+)")
_BAND = re.compile(r".+_L2R_rhorc_(?P<wavelength>\d+)_(?P<crop>\d+)\.tif")


class MADOS(PaperDataModule):
    """MADOS: 15 classes of pixels, 0 to 14, and -1 where there is no label."""

    def open(self, split: Split) -> Tiles:
        """The crops of a split."""
        return Crops(self.root, split, self.bands)


class Crops(Dataset[Sample]):
    """Crops of 240 px of one split.

    Args:
        root: The folder ``MADOS``.
        split: Which of the three.
        bands: Bands to give, of :data:`BANDS`.

    Raises:
        FileNotFoundError: If there is no list of the split, or a crop's label or band is missing.
        ValueError: If there is no such band.
    """

    def __init__(self, root: Path, split: Split, bands: list[str]) -> None:
        listed = root / "splits" / f"{split}_X.txt"
        if not listed.is_file():
            raise FileNotFoundError(
                f"no list of crops at {listed}: {root} must be MADOS's own folder"
            )
        self.channels = channels_of(bands, BANDS)
        self.root, self.names = root, listed.read_text().split()
        scenes: dict[str, dict[str, list[Path]]] = {}
        self.files: list[tuple[Path, list[Path]]] = []
        for name in self.names:
            match = _CROP.fullmatch(name)
            if match is None:
                raise ValueError(f"{listed} names {name!r}, which is not SCENE_CROP")
            scene, crop = match["scene"], match["crop"]
            if scene not in scenes:
                scenes[scene] = _bands_by_crop(root / scene)
            label = root / scene / "10" / f"{scene}_L2R_cl_{crop}.tif"
            found = scenes[scene].get(crop, [])
            if len(found) != len(BANDS) or not label.is_file():
                raise FileNotFoundError(
                    f"crop {name} of {root} has {len(found)} of {len(BANDS)} bands and "
                    f"{'a' if label.is_file() else 'no'} label at {label}: unpack MADOS again"
                )
            self.files.append((label, found))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        label, bands = self.files[index]
        mask = _read(label)
        image = [_upsampled(_read(bands[channel]), len(mask)) for channel in self.channels]
        return {
            "image": torch.from_numpy(np.stack(image).astype(np.float32) * SCALE),
            "mask": torch.from_numpy(mask.astype(np.int64)) - 1,
            "filename": self.names[index],
        }


def _bands_by_crop(scene: Path) -> dict[str, list[Path]]:
    """The files of every crop of a scene, by wavelength."""
    found: dict[str, dict[int, Path]] = {}
    for resolution in RESOLUTIONS:
        for path in (scene / str(resolution)).glob("*_rhorc_*.tif"):
            if match := _BAND.fullmatch(path.name):
                found.setdefault(match["crop"], {})[int(match["wavelength"])] = path
    return {crop: [bands[key] for key in sorted(bands)] for crop, bands in found.items()}


def _upsampled(band: NDArray[Any], size: int) -> NDArray[Any]:
    factor = size // len(band)
    return band.repeat(factor, 0).repeat(factor, 1)


def _read(path: Path) -> NDArray[Any]:
    with warnings.catch_warnings():
        # The crops carry no place on purpose.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            band: NDArray[Any] = file.read(1)
    return band
