"""Samples of every layer: a few patch tokens of each tile, or their mean."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.layers.reader import Index, LayerReader
from terratorch_simpler.tiles import Pooling, check_sampling


class LayerSampler(LayerReader):
    """Runs a backbone and reduces the output of every layer to a few samples a tile.

    With ``tokens``, the same seeded patch tokens are drawn of a tile at every layer; they depend on
    the tile's position in the stream, not on its batch. With ``mean`` the one sample of a tile is
    the mean over its patch tokens. Special tokens are left out.

    Args:
        backbone: The full backbone.
        pooling: ``tokens`` or ``mean``.
        tokens: Patch tokens drawn of each tile, or all if there are fewer.
        seed: Seed of the draw.

    Raises:
        ValueError: If there is no such pooling, or no token is to be drawn.
    """

    def __init__(self, backbone: Backbone, pooling: Pooling, tokens: int, seed: int) -> None:
        super().__init__(backbone, seed)
        check_sampling(pooling, tokens)
        self.pooling, self.tokens = pooling, tokens

    def _pick(self, tokens: Tensor) -> Index:
        """Index of the tokens to take: [batch, samples], or all patches for their mean."""
        if self.pooling == "mean":
            return super()._pick(tokens)
        patches = self._patches(tokens)
        # NumPy's generators give the same draw on every device and machine.
        picked = np.stack(
            [
                np.random.default_rng([self.seed, position]).permutation(patches)[: self.tokens]
                for position in self._positions
            ]
        )
        rows = torch.arange(len(picked), device=tokens.device)[:, None]
        return rows, torch.from_numpy(picked).to(tokens.device)

    def _reduce(self, tokens: Tensor) -> Tensor:
        if self.pooling == "mean":
            return tokens.mean(dim=1, keepdim=True, dtype=torch.float32)
        return tokens.float()


def check_samples(samples: Tensor, before: Tensor | None) -> None:
    """Refuse tiles that do not give as many samples as those before.

    Args:
        samples: [layers, tiles, samples of a tile, width].
        before: Those of tiles before, if there were any.

    Raises:
        ValueError: With both numbers.
    """
    if before is not None and before.shape[2] != samples.shape[2]:
        raise ValueError(
            f"some tiles have {samples.shape[2]} patch tokens, others at least "
            f"{before.shape[2]}: draw fewer tokens, or make the tiles one size"
        )
