"""Samples of every layer: hooks on a backbone's blocks, and groups of tiles."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from terratorch_simpler.backbones import Backbone
from terratorch_simpler.families import blocks_of
from terratorch_simpler.similarity import MIN_SAMPLES

Pooling = Literal["tokens", "mean"]

TILES_PER_GROUP: dict[Pooling, int] = {"tokens": 16, "mean": 32}
"""Tiles in a group: enough to mix many of them, and to give the estimator its samples."""


class LayerSampler:
    """Runs a backbone and reduces the output of every layer to a few samples a tile.

    Layer 0 is the input of the first block, layer l the raw output of block l, before any final
    norm. Special tokens are left out. With ``tokens``, the same seeded patch tokens are drawn of a
    tile at every layer; they depend on the tile's place in the stream, not on its batch. With
    ``mean`` the one sample of a tile is the mean over its patch tokens.

    Args:
        backbone: The full backbone.
        pooling: ``tokens`` or ``mean``.
        tokens: Patch tokens drawn of each tile, or all if there are fewer.
        seed: Seed of the draw.
    """

    def __init__(self, backbone: Backbone, pooling: Pooling, tokens: int, seed: int) -> None:
        self.backbone, self.pooling, self.tokens, self.seed = backbone, pooling, tokens, seed
        self._run = getattr(backbone.module, backbone.family.features)
        self._special = backbone.family.special_tokens(backbone.module)
        self._handles: list[RemovableHandle] = []
        self._samples: list[Tensor] = []
        self._picked: Tensor | None = None
        self._first_tile = 0

    def __enter__(self) -> Self:
        blocks = blocks_of(self.backbone.module, self.backbone.family)
        self._handles.append(blocks[0].register_forward_pre_hook(self._take_input))
        self._handles += [block.register_forward_hook(self._take_output) for block in blocks]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __call__(self, images: Tensor, first_tile: int, **inputs: Tensor) -> Tensor:
        """Run a batch of tiles.

        Args:
            images: What the backbone takes, first dimension the batch.
            first_tile: Place of the batch's first tile in the stream.
            **inputs: Further arguments of the backbone.

        Returns:
            float32 tensor [layers, batch, samples of a tile, width].
        """
        self._samples, self._picked, self._first_tile = [], None, first_tile
        with torch.no_grad():
            self._run(images, **inputs)
        return torch.stack(self._samples)

    def _take_input(self, _block: Any, inputs: tuple[Tensor, ...]) -> None:
        self._take(inputs[0])

    def _take_output(self, _block: Any, _inputs: Any, output: Tensor) -> None:
        self._take(output)

    def _take(self, tokens: Tensor) -> None:
        patches = tokens[:, self._special :]
        if self.pooling == "mean":
            self._samples.append(patches.mean(dim=1, keepdim=True).float())
            return
        if self._picked is None:
            self._picked = self._pick(patches)
        index = self._picked[..., None].expand(-1, -1, patches.shape[-1])
        self._samples.append(patches.gather(1, index).float())

    def _pick(self, patches: Tensor) -> Tensor:
        batch, count = patches.shape[:2]
        size = min(self.tokens, count)
        # NumPy's generators give the same draw on every device and machine.
        picked = [
            np.random.default_rng([self.seed, self._first_tile + i]).permutation(count)[:size]
            for i in range(batch)
        ]
        return torch.from_numpy(np.stack(picked)).to(patches.device)


class GroupStream:
    """Cuts the stream of tiles into groups, whatever the batches it comes in.

    The rest at the end is a group of its own if it has at least 4 samples of at least 2 tiles, else
    it joins the group before.

    Args:
        tiles_per_group: Tiles in a group.
    """

    def __init__(self, tiles_per_group: int) -> None:
        self.tiles_per_group = tiles_per_group
        self._waiting: Tensor | None = None

    def add(self, samples: Tensor) -> Iterator[Tensor]:
        """Add tiles; yields every group that no later tile can belong to.

        Args:
            samples: [layers, tiles, samples of a tile, width].

        Yields:
            Groups of shape [layers, samples, width].

        Raises:
            ValueError: If these tiles have another number of samples than those before.
        """
        if self._waiting is not None and self._waiting.shape[2] != samples.shape[2]:
            raise ValueError(
                f"some tiles have {samples.shape[2]} patch tokens, others at least "
                f"{self._waiting.shape[2]}: draw fewer tokens, or make the tiles one size"
            )
        waiting = samples if self._waiting is None else torch.cat([self._waiting, samples], dim=1)
        # One group is held back: a short rest may still join it.
        while waiting.shape[1] >= 2 * self.tiles_per_group:
            yield waiting[:, : self.tiles_per_group].flatten(1, 2)
            waiting = waiting[:, self.tiles_per_group :]
        self._waiting = waiting

    def finish(self) -> Iterator[Tensor]:
        """Yields what is left: one or two groups, or none if no tile came."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        rest = waiting.shape[1] - self.tiles_per_group
        if rest >= 2 and rest * waiting.shape[2] >= MIN_SAMPLES:
            yield waiting[:, : self.tiles_per_group].flatten(1, 2)
            yield waiting[:, self.tiles_per_group :].flatten(1, 2)
        else:
            yield waiting.flatten(1, 2)
