"""What goes into the backbone: checks of the tiles, and whether their values fit its statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.backbones.families import Bands
from terratorch_simpler.tiles.batches import modalities_of

FAR_MEAN = 4.0
NARROW, WIDE = 0.005, 10.0
NARROW_EIGHT_BIT = 0.05
"""Water can be as even as 8-bit numbers are: below this their range tells them apart."""


@dataclass
class InputStatistics:
    """Running statistics of normalised tiles, band by band.

    Attributes:
        means: Means that the tiles were normalised with; None if they came normalised.
        stds: Standard deviations, likewise.
        modality: Which images of the tiles these are, where there are several.
    """

    means: list[float] | None
    stds: list[float] | None
    modality: str = ""
    _sums: list[Tensor] = field(default_factory=list)
    _pixels: int = 0
    _lowest: float = np.inf
    _highest: float = -np.inf

    def update(self, images: Tensor) -> None:
        """Add normalised images of shape [B, bands, ...].

        Raises:
            ValueError: If they hold NaN or infinity.
        """
        # Without a copy: this runs on every pixel that the backbone sees.
        pixels = images.detach().float().flatten(2)
        sums = pixels.sum(2)
        # Finite where all pixels are, short of an overflow.
        if not torch.isfinite(sums).all():
            check_finite(images)
        norms = torch.linalg.vector_norm(pixels, dim=2).cpu().double()
        self._sums.append(torch.stack([sums.cpu().double().sum(0), norms.square().sum(0)]))
        self._pixels += pixels.shape[0] * pixels.shape[2]
        if self.means is None or self.stds is None:
            return
        mean, std = torch.tensor(self.means), torch.tensor(self.stds)
        # Each by itself: torch.aminmax takes ten times as long along a dimension.
        low, high = (edge.cpu() * std + mean for edge in (pixels.amin(2), pixels.amax(2)))
        self._lowest = min(self._lowest, low.min().item())
        self._highest = max(self._highest, high.max().item())

    def warning(self) -> str | None:
        """One sentence if the tiles are far from the statistics, with the likely cause."""
        total, squares = torch.stack(self._sums).sum(0) / self._pixels
        mean = total.abs().median().item()
        std = (squares - total.square()).clamp_min(0).sqrt().median().item()
        eight_bit = std < NARROW_EIGHT_BIT and self._looks_eight_bit()
        if mean <= FAR_MEAN and NARROW <= std <= WIDE and not eight_bit:
            return None
        tiles = f"the {self.modality} tiles" if self.modality else "the tiles"
        return (
            f"after normalisation {tiles} have a mean of {mean:.1f} and a spread of {std:.4f} "
            f"(about 0 and 1 are expected): {self._cause()}"
        )

    def _looks_eight_bit(self) -> bool:
        return self.means is not None and self._lowest >= 0 and 2 < self._highest <= 255

    def _cause(self) -> str:
        if self.means is None:
            return "check the means and stds of the datamodule against the units of the images"
        low, high = self._lowest, self._highest
        span = f"values of {low:.4g} to {high:.4g}"
        if -60 <= low < -1 and high <= 30:
            return f"{span} look like decibels; give means and stds in dB"
        if low >= -1 and high <= 2:
            return f"{span} look like reflectance in 0..1; multiply by 10000 or give means and stds"
        if self._looks_eight_bit():
            return f"{span} look like 8-bit digital numbers; give means and stds for them"
        means = ", ".join(f"{mean:.4g}" for mean in self.means)
        return f"{span} do not fit the means {means}; give means and stds"


def check_statistics(
    bands: Sequence[str] | None, means: Sequence[float] | None, stds: Sequence[float] | None
) -> None:
    """Refuse statistics that cannot normalise tiles.

    Args:
        bands: Bands of the tiles, if they are known.
        means: Mean of each band, or None.
        stds: Standard deviation of each band, or None.

    Raises:
        ValueError: If they are not one a band, not finite, or a deviation is not above 0.
    """
    for what, values in (("means", means), ("stds", stds)):
        if values is not None and bands is not None and len(values) != len(bands):
            raise ValueError(
                f"{what} has {len(values)} values for {len(bands)} bands: give one a band"
            )
        if values is not None and not np.isfinite(values).all():
            raise ValueError(f"{what} must be finite numbers, got {list(values)}")
    if stds is not None and min(stds) <= 0:
        raise ValueError(f"stds must be above 0, got {min(stds)}")


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


def check_finite(image: object) -> None:
    """Refuse images with holes.

    Args:
        image: An image tensor, or a dict of them by modality.

    Raises:
        ValueError: If they hold NaN or infinity.
    """
    if not all(torch.isfinite(tiles).all() for tiles in modalities_of(image).values()):
        raise ValueError(
            "the tiles hold NaN or infinity: replace them (no_data_replace in a TerraTorch config)"
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
