"""What the data sets of the kit share: loaders, normalisation and augmentation of whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningDataModule
from terratorch.datamodules.utils import Normalize
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset

Split = Literal["train", "val", "test"]
Sample = dict[str, Any]
Tiles = Dataset[Sample]
ALL_TURNS = range(8)


class PaperDataModule(LightningDataModule):
    """One data set of the paper, read as it was downloaded.

    Training images are turned and flipped at random; others, and those that a depth is selected
    on, are left as they are.

    Args:
        root: Folder of the data set.
        bands: Bands to give, in order.
        means: Mean of each band, to normalise with.
        stds: Standard deviation of each band.
        batch_size: Images in a batch.
        num_workers: Processes that read images.
        size: Height and width that images are resized to; None for as they are.
    """

    turns: ClassVar[Sequence[int]] = ALL_TURNS
    """Quarter turns that training images get, from 4 on with a flip."""

    def __init__(
        self,
        root: str,
        bands: list[str],
        means: list[float],
        stds: list[float],
        batch_size: int = 8,
        num_workers: int = 4,
        size: int | None = None,
    ) -> None:
        super().__init__()
        if not len(bands) == len(means) == len(stds):
            raise ValueError(
                f"{len(bands)} bands, {len(means)} means and {len(stds)} stds: give one of each a "
                "band"
            )
        self.root, self.size = Path(root), size
        self.bands = self.output_bands = bands
        self.batch_size, self.num_workers = batch_size, num_workers
        self.aug = Normalize(means, stds)
        self._tiles: dict[Split, Tiles] = {}

    def open(self, split: Split) -> Tiles:
        """The images of a split, with all else that the task needs."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Open what a stage needs.

        Raises:
            FileNotFoundError: If the data set is not there.
        """
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"no folder {self.root}: see studies/paper/README.md for the data"
            )
        splits: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        for split in splits.get(stage, ("test",)):
            self._tiles[split] = self.open(split)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled; a last batch that is not full is left out."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Sample]:
        """In order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """In order."""
        return self._loader("test")

    def _loader(self, split: Split) -> DataLoader[Sample]:
        tiles = self._tiles[split]
        found = len(tiles)  # type: ignore[arg-type]
        if split == "train" and found < self.batch_size:
            raise ValueError(
                f"{self.root} holds {found} images for training, less than a batch of "
                f"{self.batch_size}: is it the whole data set?"
            )
        return DataLoader(
            tiles,
            batch_size=self.batch_size,
            shuffle=split == "train",
            drop_last=split == "train",
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Resize, normalise and, in training, turn: on the device, where it is quick."""
        del dataloader_idx
        batch["image"] = batch["image"].float()
        if self.size is not None and batch["image"].shape[-1] != self.size:
            batch["image"] = interpolate(
                batch["image"], size=(self.size, self.size), mode="bicubic", align_corners=False
            )
        batch = self.aug(batch)
        # Where there are no data, the mean.
        batch["image"] = torch.nan_to_num(batch["image"], nan=0.0)
        if self.trainer is not None and self.trainer.training:
            self._turn(batch)
        return batch

    def _turn(self, batch: Sample) -> None:
        drawn = torch.randint(len(self.turns), (len(batch["image"]),)).tolist()
        for key in ("image", "mask"):
            if key in batch:
                pairs = zip(batch[key], drawn, strict=True)
                batch[key] = torch.stack([turned(one, self.turns[i]) for one, i in pairs])


def turned(image: Tensor, turn: int) -> Tensor:
    """An image [..., H, W] after some quarter turns, from 4 on flipped as well."""
    image = torch.rot90(image, turn % 4, (-2, -1))
    return image.flip(-1) if turn >= 4 else image


def channels_of(wanted: Sequence[str], held: Sequence[str]) -> list[int]:
    """Where the bands that are wanted lie among those that the files hold.

    Raises:
        ValueError: If one is not among them.
    """
    missing = [band for band in wanted if band not in held]
    if missing:
        raise ValueError(f"no band {', '.join(missing)}: the files hold {', '.join(held)}")
    return [held.index(band) for band in wanted]
