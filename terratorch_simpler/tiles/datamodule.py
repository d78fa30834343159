"""The images of a task's datamodule: chosen by seed, without augmentation, normalised as there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, IterableDataset

from terratorch_simpler.messages import one_line
from terratorch_simpler.tiles.batches import Batch, several_sizes

Split = Literal["training", "validation"]
"""Which images of a datamodule."""


class _Batches(Dataset[Batch]):
    """Batches of chosen images, as the loader they come from makes them.

    An error is returned, not raised: a worker process would wrap it in its traceback.
    """

    def __init__(self, loader: DataLoader[Any], order: list[int], split: Split) -> None:
        self.images, self.collate, self.order = loader.dataset, loader.collate_fn, order
        self.split = split
        # A loader with a sampler of batches has no size of its own.
        self.size = loader.batch_size or 1

    def __len__(self) -> int:
        return -(-len(self.order) // self.size)

    def __getitem__(self, index: int) -> Batch | ValueError:
        chosen = self.order[index * self.size :][: self.size]
        files = getattr(self.images, "image_files", None)
        images = []
        try:
            for i in chosen:
                what = files[i] if isinstance(files, list) else f"{self.split} image {i}"
                images.append(self.images[i])
            what = f"a batch of {self.split} images"
            return self.collate(images)
        except Exception as error:
            read = [one.get("image") if isinstance(one, Mapping) else one for one in images]
            why = several_sizes(read) if len(images) == len(chosen) else None
            return ValueError(f"{what} cannot be read: {why or one_line(error)}")


def _as_it_is(batch: Batch) -> Batch:
    return batch


@contextlib.contextmanager
def _blame(datamodule: LightningDataModule, what: str) -> Iterator[None]:
    """Turn what a datamodule raises into one message: it is about its arguments or its files."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{type(datamodule).__name__} {what}: {one_line(error)}") from error


class TaskImages(LightningDataModule):
    """Images of a datamodule, chosen by seed and normalised as its task sees them.

    Random augmentation would make the plan depend on a draw: the validation transform is used, and
    the validation branch of the datamodule's batch transforms.

    Args:
        datamodule: Of a TerraTorch config.
        samples: Images to use, or as many as there are; None for all.
        seed: Seed of the choice.
        split: Its training images, or those it validates on.

    Attributes:
        count: How many are used; None before it is set up.
    """

    def __init__(
        self,
        datamodule: LightningDataModule,
        samples: int | None,
        seed: int,
        split: Split = "training",
    ) -> None:
        super().__init__()
        self.inner, self.samples, self.seed, self.split = datamodule, samples, seed, split
        self.count: int | None = None

    def setup(self, stage: str) -> None:
        """Set the inner datamodule up for training, without augmentation.

        Raises:
            ValueError: If it has no such images, or they cannot be read.
        """
        del stage
        inner = self.inner
        if hasattr(inner, "train_transform") and hasattr(inner, "val_transform"):
            inner.train_transform = inner.val_transform
        inner.trainer = self.trainer
        with _blame(inner, f"cannot give its {self.split} images, check its folders and files"):
            inner.prepare_data()
            inner.setup("fit")
            training = self.split == "training"
            loader = inner.train_dataloader() if training else inner.val_dataloader()
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            raise ValueError(
                f"{type(inner).__name__}.{'train' if training else 'val'}_dataloader() gives "
                f"{type(loader).__name__}, not one DataLoader of images that can be chosen: "
                + (
                    "give the tiles with --tiles instead"
                    if training
                    else "give a datamodule with one for validation"
                )
            )
        count = len(loader.dataset)  # type: ignore[arg-type]
        order = np.random.default_rng(self.seed).permutation(count)[: self.samples]
        self.count = len(order)
        self._loader = DataLoader(
            _Batches(loader, [int(i) for i in order], self.split),
            batch_size=None,
            num_workers=loader.num_workers,
            collate_fn=_as_it_is,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """The chosen images in the order of the choice."""
        return self._loader

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """As the inner datamodule does."""
        return self.inner.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """As the inner datamodule does.

        Raises:
            ValueError: If an image could not be read.
        """
        if isinstance(batch, ValueError):
            raise batch
        return self.inner.on_before_batch_transfer(batch, dataloader_idx)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalise as the inner datamodule does for validation.

        Raises:
            ValueError: If its transforms do not fit the images, or these are of several sizes.
        """
        wrong = several_sizes(batch.get("image")) if isinstance(batch, Mapping) else None
        if wrong is not None:
            raise ValueError(wrong)
        with _blame(self.inner, "cannot normalise its images (means and stds, one a band?)"):
            return self.inner.on_after_batch_transfer(batch, dataloader_idx)
