"""Sen4Map's HDF5 files: TerraTorch's monthly composites and classes, normalised as the model wants.

Sharma, Sedona, Riedel, Cavallaro, Paris, *Sen4Map: Advancing Mapping With Sentinel-2 by Providing
Detailed Semantic Descriptions and Customizable Land-Use and Land-Cover Data*, IEEE JSTARS 17, 2024.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import torch
from terratorch.datasets import Sen4MapDatasetMonthlyComposites
from torch.utils.data import Dataset

from studies.paper.datamodule import PaperDataModule, Sample, Split, Tiles, channels_of

BANDS = [
    "BLUE", "GREEN", "RED", "RED_EDGE_1", "RED_EDGE_2", "RED_EDGE_3", "NIR_BROAD", "NIR_NARROW",
    "SWIR_1", "SWIR_2",
]  # fmt: skip
"""B2 to B12 without the bands of 60 m, in the order of TerraTorch's composites."""


class Sen4Map(PaperDataModule):
    """Twelve monthly composites of a place, and its land cover in TerraTorch's 10 classes."""

    def open(self, split: Split) -> Tiles:
        """The places of a split."""
        return Places(self.root / f"{split}.h5", self.bands)


class Places(Dataset[Sample]):
    """Places of 64 px and 12 months of one split.

    TerraTorch's own datamodule scales to 0 to 1 by fixed percentiles, the same for every model, and
    shares an open file between processes. Here each process opens the file when it first reads.

    Args:
        path: HDF5 file of the split.
        bands: Bands to give, of :data:`BANDS`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no such band.
    """

    def __init__(self, path: Path, bands: list[str]) -> None:
        if not path.is_file():
            raise FileNotFoundError(
                f"no Sen4Map at {path}: it comes as train.h5, val.h5 and test.h5"
            )
        self.path, self.channels = path, channels_of(bands, BANDS)
        with h5py.File(path) as file:
            self.names = list(file)
        self._file: Any = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        if self._file is None:
            self._file = h5py.File(self.path)
        composites = Sen4MapDatasetMonthlyComposites(self._file, h5data_keys=self.names)
        image, label = composites.get_data(self._file[self.names[index]])
        return {
            "image": image[self.channels],
            "label": torch.tensor(int(label)),
            "filename": self.names[index],
        }
