"""Batches of tiles: what they may be, and how they are taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

Batch = Any
"""A tensor, a dict with ``image``, a dict of modalities, or a sequence that starts with one."""

_NO_IMAGES = ("mask", "label", "filename", "bounds", "crs", "transform")
"""What TerraTorch and torchgeo put into a batch beside images."""


@dataclass(frozen=True)
class Tiles:
    """What a batch says of its tiles: the image, other inputs by key, and names if it has them.

    Attributes:
        image: A tensor, first dimension the tiles, or a dict of them by modality.
        inputs: Further arguments of the backbone.
        names: One a tile, if the batch has them.
        labels: One a tile, where they are asked for.
    """

    image: Any
    inputs: dict[str, Tensor]
    names: list[str] | None
    labels: Tensor | None = None

    def __len__(self) -> int:
        """Number of tiles."""
        return len(next(iter(modalities_of(self.image).values()), ()))

    def part(self, start: int, stop: int) -> Tiles:
        """The tiles from one number to before another."""
        image, inputs, labels = apply_to_collection(
            (self.image, self.inputs, self.labels), Tensor, lambda value: value[start:stop]
        )
        return Tiles(image, inputs, self.names and self.names[start:stop], labels)

    def to(self, device: torch.device) -> Tiles:
        """The tiles with their images and inputs on a device; the labels stay where they are."""
        image, inputs = apply_to_collection(
            (self.image, self.inputs), Tensor, lambda value: value.to(device)
        )
        return replace(self, image=image, inputs=inputs)


def pinned(tensor: Tensor) -> Tensor:
    """In memory from which a GPU copies while it computes; as it is where it lies on a device."""
    return tensor.pin_memory() if tensor.device.type == "cpu" else tensor


def modalities_of(image: object) -> dict[str, Tensor]:
    """The image tensors of a batch by modality; one without a name is the only one.

    Modalities that are no images, such as coordinates or captions, are left out.
    """
    images = image.items() if isinstance(image, Mapping) else [("", image)]
    return {name: value for name, value in images if isinstance(value, Tensor) and value.ndim >= 4}


def unpack(batch: Batch, keys: tuple[str, ...]) -> Tiles:
    """Take a batch apart as TerraTorch's tasks do.

    Args:
        batch: See :data:`Batch`.
        keys: Further inputs that the backbone takes, used where the batch has them.

    Raises:
        ValueError: If there is no image in it, or its images are of several sizes.
    """
    if isinstance(batch, Mapping):
        inputs = {key: batch[key] for key in keys if key in batch}
        besides = {*keys, *_NO_IMAGES}
        image = (
            batch.get("image")
            if "image" in batch
            else {key: value for key, value in batch.items() if key not in besides}
        )
        return Tiles(_stacked(image), inputs, _names(batch.get("filename")))
    if isinstance(batch, list | tuple) and batch:
        return unpack(batch[0], keys)
    if isinstance(batch, Tensor):
        return Tiles(batch, {}, None)
    raise ValueError(
        f"a batch of tiles must be a tensor, a dict with 'image' or a dict of modalities, got "
        f"{type(batch).__name__}"
    )


def several_sizes(images: object) -> str | None:
    """What is wrong with the images of a batch, listed one by one, if they are not of one size."""
    images = images if isinstance(images, list | tuple) else []
    shapes = sorted({tuple(image.shape) for image in images if isinstance(image, Tensor)})
    if len(shapes) < 2:
        return None
    sizes = ", ".join(" x ".join(map(str, shape)) for shape in shapes[:3])
    return (
        f"the images of a batch are of several sizes ({sizes}{', ...' * (len(shapes) > 3)}): make "
        "them one in the datamodule, as with its transforms, or give the tiles with --tiles instead"
    )


def _stacked(image: object) -> object:
    """The images of a batch as one tensor, where it lists them, as for detection."""
    if not isinstance(image, list | tuple) or not all(isinstance(one, Tensor) for one in image):
        return image
    wrong = several_sizes(image)
    if wrong is not None:
        raise ValueError(wrong)
    return torch.stack(list(image)) if image else image


def _names(names: object) -> list[str] | None:
    if isinstance(names, Mapping):
        # One name a modality: those of the first stand for the tile.
        names = next(iter(names.values()), None)
    return [str(name) for name in names] if isinstance(names, Iterable) else None


def by_frame(tiles: Tiles) -> Tiles:
    """Tiles of several frames [B, C, T, H, W] as B x T tiles of one."""

    def split(value: Tensor) -> Tensor:
        return rearrange(value, "b c t h w -> (b t) c h w") if value.ndim == 5 else value

    images = tiles.image.values() if isinstance(tiles.image, Mapping) else [tiles.image]
    frames = max(value.shape[2] if value.ndim == 5 else 1 for value in images)
    names = tiles.names
    if names is not None:
        names = [f"{name} frame {i}" for name in names for i in range(frames)]
    return Tiles(apply_to_collection(tiles.image, Tensor, split), tiles.inputs, names)
