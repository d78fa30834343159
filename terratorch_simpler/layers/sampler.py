"""Samples of every layer: a few patch tokens of each tile, or their mean."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.layers.reader import Index, LayerReader, send
from terratorch_simpler.tiles import Pooling, check_sampling

PARTNERS = 4
"""Tokens beside a token and half a tile away from it, in its row and in its column."""
MIN_SIDE = 4
"""Tokens along a side from which on half a tile away is farther than beside."""


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
        anchors: Of how many of the drawn tokens, the first ones, the partners are taken as well:
            the token beside it in its row and in its column, and those half a tile away from it.
            They follow the drawn tokens, four for each anchor.

    Attributes:
        no_partners: Why no partners are taken; None where they are.

    Raises:
        ValueError: If there is no such pooling, or no token is to be drawn.
    """

    def __init__(
        self, backbone: Backbone, pooling: Pooling, tokens: int, seed: int, anchors: int = 0
    ) -> None:
        super().__init__(backbone, seed)
        check_sampling(pooling, tokens)
        self.pooling, self.tokens = pooling, tokens
        self.anchors = anchors if pooling == "tokens" else 0
        self.no_partners = "tile means have no place in a tile" if pooling == "mean" else None

    def _pick(self, tokens: Tensor) -> Index:
        """Index of the tokens to take: [batch, samples], or all patches for their mean."""
        if self.pooling == "mean":
            return super()._pick(tokens)
        patches = self._patches(tokens)
        # NumPy's generators give the same draw on every device and machine.
        drawn = np.stack(
            [
                np.random.default_rng([self.seed, position]).permutation(len(patches))
                for position in self._positions
            ]
        )[:, : self.tokens]
        picked = patches[np.concatenate([drawn, self._partners(drawn, len(patches))], axis=1)]
        rows = torch.arange(len(picked), device=tokens.device)[:, None]
        return rows, send(picked, tokens.device)

    def _partners(self, drawn: NDArray[np.intp], count: int) -> NDArray[np.intp]:
        """Places of the partners among the patch tokens of each tile: [batch, 4 anchors]."""
        if not self.anchors:
            return drawn[:, :0]
        anchors = drawn[:, : self.anchors]
        if self.no_partners is None:
            self.no_partners = self._why_none(count)
        if self.no_partners is not None:
            # Tokens that stand for partners keep all tiles alike; nobody looks at them.
            return np.repeat(anchors, PARTNERS, axis=1)
        return partners(anchors, *self.grid_of(count)).reshape(len(drawn), -1)

    def _why_none(self, count: int) -> str | None:
        """Why the tokens of these tiles have no partners."""
        try:
            rows, columns = self.grid_of(count)
        except ValueError as error:
            return str(error)
        small = min(rows, columns) < MIN_SIDE
        return f"tiles of {rows} x {columns} tokens are too small" if small else None

    def _reduce(self, tokens: Tensor) -> Tensor:
        if self.pooling == "mean":
            return tokens.mean(dim=1, keepdim=True, dtype=torch.float32)
        return tokens.float()


def partners(places: NDArray[np.intp], rows: int, columns: int) -> NDArray[np.intp]:
    """Tokens beside some tokens and half a tile away from them, in the same frame or modality.

    Args:
        places: Places among the patch tokens of a tile: those of a frame or modality by row, frames
            and modalities one after the other.
        rows: Rows of a frame's or modality's tokens.
        columns: Their columns.

    Returns:
        [..., 4]: beside it in its row, beside it in its column, half a tile away in its row, in its
        column.
    """
    cell = places % (rows * columns)
    row, column = np.divmod(cell, columns)
    beside_column = np.where(column + 1 < columns, column + 1, column - 1)
    beside_row = np.where(row + 1 < rows, row + 1, row - 1)
    cells = [
        row * columns + beside_column,
        beside_row * columns + column,
        row * columns + (column + columns // 2) % columns,
        (row + rows // 2) % rows * columns + column,
    ]
    return np.stack([places - cell + other for other in cells], axis=-1)


def without_partners(samples: Tensor, anchors: int) -> Tensor:
    """The samples [..., samples of a tile, width] without the partners that follow them.

    Args:
        samples: As a :class:`LayerSampler` gives them.
        anchors: Its number of anchors.
    """
    count = samples.shape[-2]
    # Where a tile has fewer tokens than anchors, all of them are anchors.
    few = count <= (PARTNERS + 1) * anchors
    drawn = count // (PARTNERS + 1) if few else count - PARTNERS * anchors
    return samples[..., :drawn, :]


def check_drawn(drawn: int, before: int | None) -> None:
    """Refuse tiles that do not give as many samples as those before.

    Args:
        drawn: Patch tokens drawn of each of these tiles.
        before: Of tiles before, if there were any.

    Raises:
        ValueError: With both numbers.
    """
    if before is not None and before != drawn:
        raise ValueError(
            f"some tiles have {drawn} patch tokens, others at least {before}: draw fewer tokens, "
            "or make the tiles one size"
        )
