"""Frozen features of every layer: patch tokens on their grid, or their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from einops import reduce
from torch import Tensor

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.backbones.families import Images
from terratorch_simpler.layers.reader import LayerReader
from terratorch_simpler.tiles.batches import modalities_of


class FeatureReader(LayerReader):
    """Runs a backbone and keeps the features of every layer.

    For dense tasks these are the patch tokens on their grid, rows first; where a tile has several
    frames or modalities, their mean at each position. Else the one mean over all patch tokens.

    Args:
        backbone: The full backbone.
        dense: Whether the grid is kept.
        seed: Seed of a backbone that draws random numbers when it runs.

    Attributes:
        grid: Rows and columns of the last batch.
    """

    grid: tuple[int, int] = (1, 1)

    def __init__(self, backbone: Backbone, dense: bool, seed: int) -> None:
        super().__init__(backbone, seed)
        self.dense = dense

    def _run(self, images: Images, positions: Sequence[int], inputs: dict[str, Any]) -> Tensor:
        if self.dense:
            self.grid = (0, 0)
        return super()._run(images, positions, inputs)

    def _reduce(self, tokens: Tensor) -> Tensor:
        tokens = tokens.float()
        if not self.dense:
            return tokens.mean(dim=1, keepdim=True)
        if self.grid == (0, 0):
            self.grid = self._grid(tokens.shape[1])
        rows, columns = self.grid
        # The tokens of one frame or modality follow those of the one before.
        return reduce(
            tokens, "tiles (images cells) width -> tiles cells width", "mean", cells=rows * columns
        )

    def _grid(self, count: int) -> tuple[int, int]:
        """Rows and columns of tokens, from the size of the images and of a patch.

        Raises:
            ValueError: If the tokens are not those of a grid that covers the tile, or of several
                of one size.
        """
        sizes = {tuple(images.shape[-2:]) for images in modalities_of(self._image).values()}
        label = self.backbone.label
        if len(sizes) != 1:
            raise ValueError(
                f"the modalities of a tile have different sizes ({sorted(sizes)} px), so that "
                f"{label} has no one grid of tokens for their labels: make them one size"
            )
        ((height, width),) = sizes
        patch = self.backbone.family.patch(self.backbone.module)
        if patch is not None:
            if height % patch or width % patch:
                raise ValueError(
                    f"{label} cuts tiles into patches of {patch} px, and {height} x {width} px are "
                    "no multiple of it, so that tokens and labels do not line up: make the sides "
                    "of the tiles a multiple"
                )
            rows, columns = height // patch, width // patch
            if rows and columns and count % (rows * columns) == 0:
                return rows, columns
        # Without a patch that fits: the one grid of the image's proportions.
        rows = round((count * height / width) ** 0.5)
        if rows and count % rows == 0 and rows * width == count // rows * height:
            return rows, count // rows
        raise ValueError(
            f"the {count} patch tokens of {label} are no grid over tiles of {height} x {width} px: "
            "a dense task cannot be probed on them"
        )
