"""CIFAR-100 as its archive for Python lies: ``cifar-100-python/train``, ``test`` and ``meta``.

Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from studies.paper.datamodule import PaperDataModule, Sample, Split, Tiles, channels_of

BANDS = ["RED", "GREEN", "BLUE"]
SIZE = 32
HELD_OUT = 10
"""One of so many training pictures is for validation: the data set has no such split."""


class CIFAR100(PaperDataModule):
    """Pictures of 100 classes."""

    # A picture has an up and a down: it is flipped, not turned.
    turns = (0, 4)

    def open(self, split: Split) -> Tiles:
        """The pictures of a split."""
        return Pictures(self.root, split, self.bands)


class Pictures(Dataset[Sample]):
    """Pictures of 32 px of one split.

    Args:
        root: The folder that holds ``cifar-100-python``.
        split: Which of the three: training and validation share out the file ``train`` by a fixed
            seed.
        bands: Bands to give, of :data:`BANDS`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no such band.
    """

    def __init__(self, root: Path, split: Split, bands: list[str]) -> None:
        self.channels = channels_of(bands, BANDS)
        path = root / "cifar-100-python" / ("test" if split == "test" else "train")
        if not path.is_file():
            raise FileNotFoundError(
                f"no CIFAR-100 at {path}: unpack cifar-100-python.tar.gz in {root}"
            )
        with path.open("rb") as file:
            held = pickle.load(file, encoding="latin1")
        chosen = np.arange(len(held["fine_labels"]))
        if split != "test":
            shuffled = np.random.default_rng(0).permutation(chosen)
            validation = len(chosen) // HELD_OUT
            chosen = np.sort(shuffled[:validation] if split == "val" else shuffled[validation:])
        self.images = np.asarray(held["data"]).reshape(-1, len(BANDS), SIZE, SIZE)[chosen]
        self.labels = np.asarray(held["fine_labels"], dtype=np.int64)[chosen]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        image = torch.from_numpy(self.images[index][self.channels])
        return {"image": image, "label": torch.tensor(self.labels[index])}
