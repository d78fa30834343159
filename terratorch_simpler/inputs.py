"""What goes into the backbone: checks of the tiles, and whether their values fit its statistics."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from terratorch_simpler.backbones import Backbone

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
    """

    means: list[float] | None
    stds: list[float] | None
    _sums: list[Tensor] = field(default_factory=list)
    _pixels: int = 0
    _lowest: float = np.inf
    _highest: float = -np.inf

    def update(self, images: Tensor) -> None:
        """Add normalised images of shape [B, bands, ...]."""
        bands = images.detach().float().transpose(0, 1).flatten(1)
        self._sums.append(torch.stack([bands.sum(1), bands.square().sum(1)]).double().cpu())
        self._pixels += bands.shape[1]
        low, high = bands.amin(1).cpu(), bands.amax(1).cpu()
        if self.means is not None and self.stds is not None:
            mean, std = torch.tensor(self.means), torch.tensor(self.stds)
            low, high = low * std + mean, high * std + mean
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
        return (
            f"after normalisation the tiles have a mean of {mean:.1f} and a spread of {std:.4f} "
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


def check_images(images: Tensor, backbone: Backbone) -> None:
    """Refuse images that the backbone cannot read.

    Raises:
        ValueError: If they are no image tensor, have another number of bands, are smaller than a
            patch, or hold NaN or infinity.
    """
    if not isinstance(images, Tensor):
        raise ValueError(
            f"{backbone.label} reads one image tensor, the batch holds {type(images).__name__}"
        )
    bands = backbone.family.bands(backbone.module)
    if images.ndim not in (4, 5) or images.shape[1] != bands:
        raise ValueError(
            f"{backbone.label} reads {bands} bands, the tiles have shape {list(images.shape[1:])}: "
            "make the bands of the tiles those of the backbone"
        )
    patch = backbone.family.patch(backbone.module)
    if min(images.shape[-2:]) < patch:
        raise ValueError(
            f"tiles of {list(images.shape[-2:])} px are smaller than a patch ({patch})"
        )
    if not torch.isfinite(images).all():
        raise ValueError(
            "the tiles hold NaN or infinity: replace them (no_data_replace in a TerraTorch config)"
        )
