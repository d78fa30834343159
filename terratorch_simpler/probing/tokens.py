"""Frozen features of every layer: patch tokens on their grid, or their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from einops import reduce
from torch import Tensor

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.backbones.families import Images
from terratorch_simpler.layers.reader import LayerReader


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
            self.grid = self.grid_of(tokens.shape[1])
        rows, columns = self.grid
        # The tokens of one frame or modality follow those of the one before.
        return reduce(
            tokens, "tiles (images cells) width -> tiles cells width", "mean", cells=rows * columns
        )
