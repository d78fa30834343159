"""Groups of tiles: the stream of tiles divided, whatever batches and processes it comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from terratorch_simpler.layers.sampler import check_drawn, without_partners
from terratorch_simpler.similarity import MIN_SAMPLES
from terratorch_simpler.tiles import Pooling

TILES_PER_GROUP: dict[Pooling, int] = {"tokens": 16, "mean": 32}
"""Tiles in a group: enough to mix many of them, and to give the estimator its samples."""


class GroupStream:
    """Divides the stream of tiles into groups.

    Group g holds the samples of the tiles at positions ``g * size`` to ``(g + 1) * size - 1``.
    Process r of w runs the tiles of groups r, r + w, r + 2w, ... The rest at the end is a group of
    its own if it has at least 4 samples of at least 2 tiles, else it joins the group before.

    Args:
        size: Tiles in a group.
        rank: Number of this process.
        world: Number of processes.
        anchors: Samples of a tile whose partners follow, as
            :class:`~terratorch_simpler.layers.sampler.LayerSampler` takes them.
    """

    def __init__(self, size: int, rank: int = 0, world: int = 1, anchors: int = 0) -> None:
        self.size, self.rank, self.world, self.anchors = size, rank, world, anchors
        self._next = rank
        self._waiting: Tensor | None = None
        self._last: Tensor | None = None

    def owns(self, position: int) -> bool:
        """Whether this process runs the tile at a position of the stream."""
        return position // self.size % self.world == self.rank

    def add(self, samples: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Add the next tiles of this process.

        Args:
            samples: [layers, tiles, samples of a tile, width].

        Yields:
            The number of every group that is full now, and its samples [layers, tiles, samples of a
            tile, width].

        Raises:
            ValueError: If these tiles have another number of samples than those before.
        """
        before = self._waiting if self._waiting is not None else self._last
        check_drawn(self._drawn(samples), self._drawn(before) if before is not None else None)
        waiting = samples if self._waiting is None else torch.cat([self._waiting, samples], dim=1)
        while waiting.shape[1] >= self.size:
            self._last, waiting = waiting[:, : self.size], waiting[:, self.size :]
            yield self._next, self._last
            self._next += self.world
        self._waiting = waiting if waiting.shape[1] else None

    def finish(
        self, tiles: int, broadcast: Callable[[Tensor | None, int], Tensor | None]
    ) -> Iterator[tuple[int, Tensor]]:
        """Settle the rest.

        Args:
            tiles: Tiles in the whole stream.
            broadcast: Gives every process what the process of the number named holds.

        Yields:
            The rest as a last group; or the group before again, with the rest in it.
        """
        number, rest = divmod(tiles, self.size)
        if rest == 0:
            return
        owner = number % self.world
        samples = broadcast(self._waiting if owner == self.rank else None, owner)
        assert samples is not None
        alone = rest >= 2 and rest * self._drawn(samples) >= MIN_SAMPLES
        if (alone or number == 0) and owner == self.rank:
            yield number, samples
        elif not alone and number > 0 and (number - 1) % self.world == self.rank:
            assert self._last is not None
            joined = torch.cat([self._last, samples.to(self._last.device)], dim=1)
            yield number - 1, joined

    def _drawn(self, samples: Tensor) -> int:
        return without_partners(samples, self.anchors).shape[2]
