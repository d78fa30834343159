"""Where batches of tiles come from: chips, loaders, datamodules of a config, or any iterable."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from terratorch_simpler.bands import band_names
from terratorch_simpler.messages import one_line
from terratorch_simpler.tiles.geotiff import GeoTiffTiles

Batch = Any
"""A tensor, a dict with ``image``, a dict of modalities, or a sequence that starts with one."""


Split = Literal["training", "validation"]
"""Which images of a datamodule."""

_NO_IMAGES = ("mask", "label", "filename", "bounds", "crs", "transform")
"""What TerraTorch and torchgeo put into a batch beside images."""


@dataclass(frozen=True)
class Tiles:
    """What a batch says of its tiles: the image, other inputs by key, and names if it has them."""

    image: Any
    inputs: dict[str, Tensor]
    names: list[str] | None


def unpack(batch: Batch, keys: tuple[str, ...]) -> Tiles:
    """Take a batch apart as TerraTorch's tasks do.

    Args:
        batch: See :data:`Batch`.
        keys: Further inputs that the backbone takes, used where the batch has them.

    Raises:
        ValueError: If there is no image in it.
    """
    if isinstance(batch, Mapping):
        inputs = {key: batch[key] for key in keys if key in batch}
        besides = {*keys, *_NO_IMAGES}
        image = (
            batch.get("image")
            if "image" in batch
            else {key: value for key, value in batch.items() if key not in besides}
        )
        return Tiles(image, inputs, _names(batch.get("filename")))
    if isinstance(batch, list | tuple) and batch:
        return unpack(batch[0], keys)
    if isinstance(batch, Tensor):
        return Tiles(batch, {}, None)
    raise ValueError(
        f"a batch of tiles must be a tensor, a dict with 'image' or a dict of modalities, got "
        f"{type(batch).__name__}"
    )


def _names(names: Any) -> list[str] | None:
    if isinstance(names, Mapping):
        # One name a modality: those of the first stand for the tile.
        names = next(iter(names.values()), None)
    return [str(name) for name in names] if names is not None else None


def by_frame(tiles: Tiles) -> Tiles:
    """Tiles of several frames [B, C, T, H, W] as B x T tiles of one."""

    def split(value: Tensor) -> Tensor:
        return value.transpose(1, 2).flatten(0, 1) if value.ndim == 5 else value

    images = tiles.image.values() if isinstance(tiles.image, Mapping) else [tiles.image]
    frames = max(value.shape[2] if value.ndim == 5 else 1 for value in images)
    names = tiles.names
    if names is not None:
        names = [f"{name} frame {i}" for name in names for i in range(frames)]
    return Tiles(apply_to_collection(tiles.image, Tensor, split), tiles.inputs, names)


class Stream:
    """Wraps any iterable of batches, so that Lightning does not take a list for several loaders."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Batch]:
        yield from self.batches


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
            return ValueError(f"{what} cannot be read: {one_line(error)}")


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
            ValueError: If its transforms do not fit the images.
        """
        with _blame(self.inner, "cannot normalise its images (means and stds, one a band?)"):
            return self.inner.on_after_batch_transfer(batch, dataloader_idx)


@dataclass(frozen=True)
class Source:
    """Tiles ready for a Lightning loop.

    Attributes:
        label: Where the tiles come from, for the plan.
        loop: What ``Trainer.validate`` takes: ``dataloaders`` or ``datamodule``.
        means: Mean of each band if the tiles are still to be normalised.
        stds: Standard deviation of each band, likewise.
        bands: Names of the bands if they are known.
        chips: The chips behind it, where it reads GeoTIFF files.
    """

    label: str
    loop: dict[str, Any]
    means: list[float] | None = None
    stds: list[float] | None = None
    bands: list[str] | None = None
    chips: GeoTiffTiles | None = None


def open_source(tiles: Any, samples: int | None, seed: int, split: Split = "training") -> Source:
    """Turn anything that :func:`terratorch_simpler.select` takes as tiles into a source.

    Args:
        tiles: ``GeoTiffTiles``, a ``DataLoader``, a ``LightningDataModule`` or any iterable of
            batches.
        samples: Most tiles to use of a datamodule; None for all.
        seed: Seed of the choice from a datamodule.
        split: Which images of a datamodule.

    Raises:
        ValueError: If it is none of these, or the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    if isinstance(tiles, GeoTiffTiles):
        return Source(
            tiles.source,
            {"dataloaders": tiles},
            list(tiles.means) if tiles.means is not None else None,
            list(tiles.stds) if tiles.stds is not None else None,
            tiles.bands,
            tiles,
        )
    if isinstance(tiles, LightningDataModule):
        return Source(
            f"{split} images of {type(tiles).__name__}",
            {"datamodule": TaskImages(tiles, samples, seed, split)},
            bands=band_names(getattr(tiles, "output_bands", None)),
        )
    if isinstance(tiles, Iterable) and not isinstance(tiles, str | Tensor | Mapping):
        return Source(type(tiles).__name__, {"dataloaders": Stream(tiles)})
    raise ValueError(
        "tiles must be GeoTiffTiles, a DataLoader, a LightningDataModule or an iterable of "
        f"batches, got {type(tiles).__name__} (for a folder: GeoTiffTiles(folder, bands=[...]))"
    )
