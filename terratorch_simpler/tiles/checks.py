"""What goes into the backbone: checks of the tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.backbones.families import Bands
from terratorch_simpler.tiles.batches import modalities_of


def check_images(
    image: object, backbone: Backbone, inputs: Mapping[str, Any] | None = None
) -> None:
    """Refuse images that the backbone cannot read.

    Args:
        image: A tensor [B, C, H, W] or [B, C, T, H, W], or a dict of them by modality.
        backbone: The full backbone.
        inputs: What else of the batch goes into it.

    Raises:
        ValueError: If they are no images, have other bands, frames, modalities or size than the
            backbone reads.
    """
    family, module = backbone.family, backbone.module
    bands = family.bands(module)
    images = modalities_of(image)
    if not images or (isinstance(image, Mapping) and not isinstance(bands, Mapping)):
        what = "an image tensor for each modality" if isinstance(bands, Mapping) else "one image"
        raise ValueError(
            f"{backbone.label} reads {what}, the batch holds {_describe(image)}: make the tiles "
            "what the backbone reads"
        )
    assert isinstance(image, Tensor | Mapping)
    _check_bands(images, bands, backbone)
    try:
        family.check(module, image, inputs or {}, backbone.arguments)
    except ValueError as error:
        raise ValueError(f"{backbone.label} {error}") from None
    patch = family.patch(module)
    for tiles in images.values():
        if patch is not None and min(tiles.shape[-2:]) < patch:
            raise ValueError(
                f"tiles of {list(tiles.shape[-2:])} px are smaller than a patch ({patch})"
            )


def check_finite(image: object, names: Sequence[str] | None = None) -> None:
    """Refuse images with holes.

    Args:
        image: An image tensor, or a dict of them by modality.
        names: What the tiles are called.

    Raises:
        ValueError: If they hold NaN or infinity, with the first of the tiles that do.
    """
    for images in modalities_of(image).values():
        holes = ~torch.isfinite(images).flatten(1).all(dim=1)
        if holes.any():
            raise holes_in([names[i] for i in holes.nonzero().flatten().tolist()] if names else [])


def holes_in(names: Sequence[str]) -> ValueError:
    """The error for tiles with NaN or infinity.

    Args:
        names: What they are called; empty where they have no names.
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    tiles = f"the tiles {', '.join(names[:3])}{more}" if names else "the tiles"
    return ValueError(
        f"{tiles} hold NaN or infinity: replace them (no_data_replace in a TerraTorch config)"
    )


def _describe(image: object) -> str:
    if isinstance(image, Mapping):
        return f"the modalities {', '.join(map(str, image))}"
    return f"a tensor {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__


def _check_bands(images: Mapping[str, Tensor], bands: Bands, backbone: Backbone) -> None:
    for name, tiles in images.items():
        wanted = bands
        if isinstance(bands, Mapping):
            # A tensor without a name is the first modality.
            wanted = bands.get(name) if name else next(iter(bands.values()), None)
        if tiles.ndim not in (4, 5) or (wanted is not None and tiles.shape[1] != wanted):
            what = f"tiles of {name}" if name else "tiles"
            raise ValueError(
                f"{backbone.label} reads {wanted} bands, the {what} have shape "
                f"{list(tiles.shape[1:])}: make the bands of the tiles those of the backbone"
            )
