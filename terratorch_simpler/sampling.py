"""Samples of every layer: hooks on a backbone's blocks, and groups of tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.utilities.seed import isolate_rng
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from terratorch_simpler.backbones import Backbone
from terratorch_simpler.families import blocks_of
from terratorch_simpler.inputs import modalities_of
from terratorch_simpler.messages import one_line
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
        self._handles: list[RemovableHandle] = []
        self._samples: list[Tensor] = []
        self._image: Any = None
        self._picked: Tensor | None = None
        self._first_tile = 0

    def __enter__(self) -> Self:
        blocks = blocks_of(self.backbone.module, self.backbone.family)
        first = blocks[0].register_forward_pre_hook(self._take_input, with_kwargs=True)
        self._handles.append(first)
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

    def __call__(self, images: Any, first_tile: int, **inputs: Tensor) -> Tensor:
        """Run a batch of tiles.

        Args:
            images: What the backbone takes: a tensor, first dimension the batch, or a dict of them.
            first_tile: Place of the batch's first tile in the stream.
            **inputs: Further arguments of the backbone.

        Returns:
            float32 tensor [layers, batch, samples of a tile, width].

        Raises:
            ValueError: If the backbone cannot run on them, or its blocks change the width.
        """
        if not self.backbone.family.generates:
            return self._run(images, first_tile, inputs)
        count = len(next(iter(modalities_of(images).values())))
        samples = []
        for i in range(count):
            one = apply_to_collection((images, inputs), Tensor, lambda value, i=i: value[i : i + 1])
            with isolate_rng():
                seed_everything(self.seed + first_tile + i, verbose=False)
                samples.append(self._run(one[0], first_tile + i, one[1]))
        return torch.cat(samples, dim=1)

    def _run(self, images: Any, first_tile: int, inputs: dict[str, Any]) -> Tensor:
        self._samples, self._picked, self._first_tile = [], None, first_tile
        # A copy, since TiM writes into the dict that it is given.
        self._image = dict(images) if isinstance(images, Mapping) else images
        run = dict(images) if isinstance(images, Mapping) else images
        try:
            with torch.no_grad():
                self.backbone.module(run, **inputs)
        except Exception as error:
            # Whatever a backbone raises here is about what it was given to read.
            shapes = {
                name or "image": list(tiles.shape[1:])
                for name, tiles in modalities_of(images).items()
            }
            raise ValueError(
                f"{self.backbone.label} cannot run on tiles of {shapes}: {one_line(error)}"
            ) from error
        expected = self.backbone.depth + 1
        if len(self._samples) != expected:
            raise ValueError(
                f"{self.backbone.label} ran {len(self._samples) - 1} of its {self.backbone.depth} "
                "blocks once: name another list with blocks="
            )
        return torch.stack(self._samples)

    def _take_input(self, _block: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._take(next(iter([*inputs, *named.values()]), None))

    def _take_output(self, _block: Any, _inputs: Any, output: Any) -> None:
        self._take(output)

    def _take(self, tokens: Any) -> None:
        if not isinstance(tokens, Tensor) or tokens.ndim not in (3, 4):
            shape = list(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
            raise ValueError(f"block {len(self._samples)} gives {shape}, not tokens")
        # Some keep the tokens of an image in rows and columns.
        tokens = tokens.flatten(1, -2)
        if self._samples and tokens.shape[-1] != self._samples[0].shape[-1]:
            raise ValueError(
                f"block {len(self._samples)} turns tokens of width {self._samples[0].shape[-1]} "
                f"into width {tokens.shape[-1]}: such blocks cannot be removed"
            )
        if self._picked is None:
            self._picked = self._pick(tokens)
        index = self._picked[..., None].expand(-1, -1, tokens.shape[-1])
        samples = tokens.gather(1, index).float()
        mean = self.pooling == "mean"
        self._samples.append(samples.mean(dim=1, keepdim=True) if mean else samples)

    def _pick(self, tokens: Tensor) -> Tensor:
        """Which tokens to take of each tile: [batch, samples], or all patches for their mean."""
        family, module = self.backbone.family, self.backbone.module
        batch, count = tokens.shape[:2]
        if family.patch_tokens is not None:
            patches = np.array(family.patch_tokens(module, self._image, count))
        else:
            patches = np.arange(family.special_tokens(module), count)
        if self.pooling == "mean":
            picked = [patches] * batch
        else:
            # NumPy's generators give the same draw on every device and machine.
            picked = [
                patches[
                    np.random.default_rng([self.seed, self._first_tile + i]).permutation(
                        len(patches)
                    )[: self.tokens]
                ]
                for i in range(batch)
            ]
        return torch.from_numpy(np.stack(picked)).to(tokens.device)


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
