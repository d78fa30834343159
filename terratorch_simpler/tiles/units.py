"""Whether the values of tiles fit the statistics that they are normalised with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from terratorch_simpler.tiles.checks import holes_in

FAR_MEAN = 4.0
NARROW, WIDE = 0.005, 10.0
NARROW_EIGHT_BIT = 0.05
"""Water can be as even as 8-bit numbers are: below this their range tells them apart."""
RAISED = 1.0
"""Standard deviations above the mean: no land cover is that bright in all bands everywhere."""
NEGATIVE = -2000.0
"""Reflectance x 10000 that no correction of the atmosphere makes."""
ADDED = 1000.0
"""What Sentinel-2 adds to each value since processing baseline 04.00."""
LANDSAT_ZERO = 6800.0
"""Collection 2 Level 2 stores a reflectance of 0 as 7273, Level 1 stores it as 5000."""
WHOLE = 0.05
"""Farthest that a whole number is from one once it was normalised and back in float32."""
LOOKED_AT = 1024
"""Pixels of a batch that are looked at for whole numbers."""


@dataclass
class InputStatistics:
    """Running statistics of normalised tiles, band by band.

    Attributes:
        means: Means that the tiles were normalised with; None if they came normalised.
        stds: Standard deviations, likewise.
        modality: Which images of the tiles these are, where there are several.
        published: Whether the statistics are those of the weights, and not the user's own.
    """

    means: list[float] | None
    stds: list[float] | None
    modality: str = ""
    published: bool = False
    _found: list[Tensor] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)
    _checked: int = 0
    _pixels: int = 0
    _whole: Tensor | None = None
    _scale: tuple[Tensor, Tensor] | None = None

    def update(self, images: Tensor, names: Sequence[str] | None = None) -> None:
        """Add normalised images of shape [B, bands, ...].

        What is found stays on their device, so that a GPU need not be waited for.

        Args:
            images: The images.
            names: What the tiles are called.

        Raises:
            ValueError: If they hold NaN or infinity and lie on the CPU; on another device
                :meth:`check` says so.
        """
        # Without a copy: this runs on every pixel that the backbone sees.
        pixels = images.detach().float().flatten(2)
        norms = torch.linalg.vector_norm(pixels, dim=2)
        # Each by itself: torch.aminmax takes ten times as long along a dimension.
        self._found.append(torch.stack([pixels.sum(2), norms, pixels.amin(2), pixels.amax(2)]))
        self._names += names or []
        self._pixels += pixels.shape[0] * pixels.shape[2]
        if self.means is not None:
            few = self._in_units(pixels[0, :, :LOOKED_AT].T)
            whole = ((few - few.round()).abs() < WHOLE).all()
            self._whole = whole if self._whole is None else self._whole & whole
        if images.device.type == "cpu":
            self.check()

    def check(self) -> None:
        """Refuse tiles with holes among those that were added since it was asked last.

        Raises:
            ValueError: If they hold NaN or infinity, with their names.
        """
        if self._checked == len(self._found):
            return
        _, _, low, high = torch.cat(self._found[self._checked :], dim=1).unbind()
        holes = ~(torch.isfinite(low) & torch.isfinite(high)).all(dim=1)
        if holes.any():
            names = self._names[-len(holes) :]
            raise holes_in([names[i] for i in holes.nonzero().flatten().tolist()] if names else [])
        self._checked = len(self._found)

    def _in_units(self, normalised: Tensor) -> Tensor:
        """Values [..., bands] as they are in the files."""
        if self._scale is None or self._scale[0].device != normalised.device:
            means, stds = torch.tensor(self.means), torch.tensor(self.stds)
            self._scale = means.to(normalised.device), stds.to(normalised.device)
        means, stds = self._scale
        return normalised * stds + means

    def warning(self) -> str | None:
        """One sentence if the tiles do not fit the statistics, with the likely cause."""
        sums, norms, low, _ = torch.cat(self._found, dim=1).cpu().double().unbind()
        total, squares = sums.sum(0) / self._pixels, norms.square().sum(0) / self._pixels
        mean = total.abs().median().item()
        std = (squares - total.square()).clamp_min(0).sqrt().median().item()
        tiles = f"the {self.modality} tiles" if self.modality else "the tiles"
        eight_bit = std < NARROW_EIGHT_BIT and self._looks_eight_bit()
        if mean > FAR_MEAN or not NARROW <= std <= WIDE or eight_bit:
            return (
                f"after normalisation {tiles} have a mean of {mean:.1f} and a spread of "
                f"{std:.4f} (about 0 and 1 are expected): {self._cause()}"
            )
        lowest = low.min().item()
        if lowest > RAISED:
            return (
                f"after normalisation no value of {tiles} in any band is below {lowest:.1f} (below "
                f"0 is expected): {self._cause()}"
            )
        return self._offset(tiles)

    def _offset(self, tiles: str) -> str | None:
        """A sentence if something was added to reflectances, or lies among them."""
        if self.means is None or not self.published or min(self.means) <= 0:
            return None
        low, high = self._extremes()
        if min(low) < NEGATIVE:
            return (
                f"{tiles} hold values down to {min(low):.6g}, which is no reflectance: declare it "
                "as nodata in the files"
            )
        near = 0.9 * ADDED <= min(low) <= 1.1 * ADDED and max(low) <= 1.5 * ADDED
        if self._whole and near and max(high) > 2 * ADDED:
            return (
                f"no value of {tiles} lies below {min(low):.6g}: Sentinel-2 adds 1000 to each "
                "since processing baseline 04.00; subtract it, or give means and stds that fit"
            )
        return None

    def _extremes(self) -> tuple[list[float], list[float]]:
        """Least and greatest value of each band, as they are in the files."""
        _, _, low, high = torch.cat(self._found, dim=1).cpu().unbind()
        return self._in_units(low.amin(0)).tolist(), self._in_units(high.amax(0)).tolist()

    def _looks_eight_bit(self) -> bool:
        if self.means is None or not self._whole:
            return False
        low, high = self._extremes()
        return min(low) >= -WHOLE and 2 < max(high) <= 255 + WHOLE

    def _cause(self) -> str:
        if self.means is None:
            return "check the means and stds of the datamodule against the units of the images"
        lows, highs = self._extremes()
        low, high = min(lows), max(highs)
        span = f"values of {low:.4g} to {high:.4g}"
        if -60 <= low < -1 and high <= 30:
            return f"{span} look like decibels; give means and stds in dB"
        if low >= -1 and high <= 2:
            return f"{span} look like reflectance in 0..1; multiply by 10000 or give means and stds"
        if self._looks_eight_bit():
            return f"{span} look like 8-bit digital numbers; give means and stds for them"
        if low >= -20 and high <= 200 and not self._whole:
            return f"{span} look like reflectance in per cent; multiply by 100"
        if self._whole and low > LANDSAT_ZERO / 2 and high <= 65_535:
            level = "Collection 2 Level 2" if low >= LANDSAT_ZERO else "Level 1"
            return (
                f"{span} look like digital numbers of Landsat {level}; rescale them to reflectance "
                "x 10000 or give means and stds"
            )
        means = ", ".join(f"{mean:.4g}" for mean in self.means)
        return f"{span} do not fit the means {means}; give means and stds"
