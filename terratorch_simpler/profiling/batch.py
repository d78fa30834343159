"""One batch to profile with: random, given, or from the datamodule of a config."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from terratorch_simpler.backbones.families.tracing import image_size
from terratorch_simpler.lightning import run_pass
from terratorch_simpler.profiling.profiled import ProfiledModel
from terratorch_simpler.profiling.runs import Example
from terratorch_simpler.tiles.batches import Batch, Tiles, modalities_of, unpack
from terratorch_simpler.tiles.sources import open_source
from terratorch_simpler.tiles.tile_pass import TilePass


def random_example(profiled: ProfiledModel, batch_size: int, size: int | None = None) -> Example:
    """A batch of random values of the shape that the backbone takes.

    Args:
        profiled: What is profiled.
        batch_size: Images in the batch.
        size: Their height and width in pixels; None for what the backbone was built for.

    Raises:
        ValueError: If the size does not fit the patches, or the number of frames is not known.
    """
    backbone = profiled.backbone
    if backbone.by_frame:
        raise ValueError(
            f"{profiled.label} reads several frames, and how many only its data says: give a batch "
            "of it, or leave the size out for a config with data"
        )
    patch = backbone.family.patch(backbone.module)
    if size is not None and patch is not None and (size < patch or size % patch):
        below = max(size // patch, 1) * patch
        raise ValueError(
            f"{backbone.label} cuts images into patches of {patch} px: size must be a multiple of "
            f"it, {below} or {below + patch}, got {size}"
        )
    generator = torch.Generator().manual_seed(0)

    def draw(like: Tensor) -> Tensor:
        sides = like.shape[-2:] if size is None else (size, size)
        return torch.randn(batch_size, *like.shape[1:-2], *sides, generator=generator)

    like = backbone.family.example_image(backbone.module, image_size(backbone.module))
    image = apply_to_collection(like, Tensor, draw)
    return image, backbone.family.example_inputs(image)


def example_from(profiled: ProfiledModel, batch: Any, batch_size: int) -> Example:
    """A batch as the model takes it, of another number of images: repeated or cut.

    Raises:
        ValueError: If there is no image in the batch.
    """
    return _resize(unpack(batch, profiled.backbone.family.inputs), batch_size)


def first_batch(
    profiled: ProfiledModel, datamodule: LightningDataModule, batch_size: int
) -> Example:
    """Training images as the task sees them.

    Raises:
        ValueError: If the images cannot be read.
    """
    keep = _FirstTiles(profiled.backbone, open_source(datamodule, batch_size, 0))
    run_pass(keep, keep.source.loop, accelerator="cpu")
    return _resize(keep.tiles, batch_size)


class _FirstTiles(TilePass):
    """Keeps the tiles of the first batch, with all their frames."""

    tiles: Tiles

    def read(self, batch: Batch) -> Tiles:
        """Take a batch apart, as the model of a task is given it."""
        return unpack(batch, self.backbone.family.inputs)

    def add(self, tiles: Tiles, positions: range) -> None:
        """Keep the tiles."""
        del positions
        self.tiles = tiles

    def has_enough(self) -> bool:
        """One batch is enough."""
        return True


def _resize(tiles: Tiles, batch_size: int) -> Example:
    if not modalities_of(tiles.image):
        raise ValueError("the batch holds no image: give a tensor [B, C, H, W] or a dict of them")
    chosen = torch.arange(batch_size) % len(tiles)
    image, inputs = apply_to_collection(
        (tiles.image, tiles.inputs), Tensor, lambda value: value.cpu()[chosen]
    )
    return image, inputs
