"""Small RGB pictures of tiles for the report."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

COUNT, SIZE = 12, 112


class Thumbnails:
    """Keeps the first tiles of a pass as small RGB images.

    Args:
        bands: Names of the bands; without RED, GREEN and BLUE among them the first three (or one)
            are shown.
    """

    def __init__(self, bands: list[str] | None) -> None:
        rgb = ("RED", "GREEN", "BLUE")
        names = bands or []
        self._index = [names.index(b) for b in rgb] if set(rgb) <= set(names) else None
        self._small: dict[str, Tensor] = {}

    @property
    def images(self) -> dict[str, NDArray[np.uint8]]:
        """Arrays [H, W, 3] by the tile's name, each stretched by itself."""
        return {name: _stretch(small.cpu()) for name, small in self._small.items()}

    def update(self, images: Tensor, names: list[str] | None) -> None:
        """Take what is still needed of a batch [B, C, H, W] or [B, C, T, H, W] (first frame)."""
        for i in range(min(len(images), COUNT - len(self._small))):
            image = images[i] if images.ndim == 4 else images[i, :, 0]
            name = names[i] if names else f"tile {len(self._small)}"
            self._small[name] = self._shrink(image)

    def _shrink(self, image: Tensor) -> Tensor:
        channels = image.shape[0]
        index = self._index or ([0, 1, 2] if channels >= 3 else [0, 0, 0])
        if self._index is None and channels in (12, 13):
            # All bands of Sentinel-2, in its own order.
            index = [3, 2, 1]
        # On the tile's device, and without an index that would have to be copied there.
        return torch.nn.functional.adaptive_avg_pool2d(
            torch.stack([image[i] for i in index]).float()[None],
            (min(SIZE, image.shape[-2]), min(SIZE, image.shape[-1])),
        )[0]


def _stretch(small: Tensor) -> NDArray[np.uint8]:
    picture = small.permute(1, 2, 0).numpy()
    # Here, since torchgeo takes seconds to import; TerraTorch has done so.
    from torchgeo.datasets.utils import percentile_normalization

    return np.asarray(percentile_normalization(picture, axis=(0, 1)) * 255, dtype=np.uint8)
