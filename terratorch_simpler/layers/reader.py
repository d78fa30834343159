"""The tokens of every layer: hooks on a backbone's blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.utilities.seed import isolate_rng
from lightning_utilities.core.apply_func import apply_to_collection
from numpy.typing import NDArray
from torch import Tensor, nn

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.backbones.families import Images
from terratorch_simpler.backbones.patches import multiplied
from terratorch_simpler.messages import one_line
from terratorch_simpler.precision import full_float32
from terratorch_simpler.tiles.batches import modalities_of, pinned

Index = tuple[Any, ...]


class LayerReader:
    """Runs a backbone and keeps something of the tokens of every layer.

    Layer 0 is the input of the first block, layer l the raw output of block l, before any final
    norm. What is kept of a layer is the business of a subclass: which tokens (:meth:`_pick`, once
    for all layers of a batch) and what of them (:meth:`_reduce`). By default all patch tokens are,
    without the special ones. Within the context 32 bits are those of :func:`full_float32`, and
    patches are multiplied where torch is known to convolve them slowly.

    Args:
        backbone: The full backbone.
        seed: Seed of a backbone that draws random numbers when it runs.
    """

    def __init__(self, backbone: Backbone, seed: int) -> None:
        self.backbone, self.seed = backbone, seed
        self._until_exit = ExitStack()
        self._samples: list[Tensor] = []
        self._image: Images | None = None
        self._picked: Index | None = None
        self._positions: Sequence[int] = ()

    def __enter__(self) -> Self:
        blocks = self.backbone.called_blocks
        hooks = [blocks[0][0].register_forward_pre_hook(self._take_input, with_kwargs=True)]
        hooks += [
            called[-1].register_forward_hook(self._take_output, with_kwargs=True)
            for called in blocks
        ]
        for hook in hooks:
            self._until_exit.callback(hook.remove)
        self._until_exit.enter_context(full_float32())
        if self.backbone.family.embeds_otherwise is None:
            where = multiplied(self.backbone.module, self.backbone.blocks)
            self._until_exit.enter_context(where)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._until_exit.close()

    def __call__(self, images: Images, positions: Sequence[int], **inputs: Tensor) -> Tensor:
        """Run a batch of tiles.

        Args:
            images: What the backbone takes: a tensor, first dimension the batch, or a dict of them.
            positions: Position of each tile in the stream.
            **inputs: Further arguments of the backbone.

        Returns:
            float32 tensor [layers, batch, kept of a tile, width].

        Raises:
            ValueError: If the backbone cannot run on them, or its blocks change the width.
        """
        if not self.backbone.family.generates:
            return self._run(images, positions, inputs)
        samples = []
        for i, position in enumerate(positions):
            one = apply_to_collection((images, inputs), Tensor, lambda value, i=i: value[i : i + 1])
            with isolate_rng():
                seed_everything(self.seed + position, verbose=False)
                samples.append(self._run(one[0], [position], one[1]))
        return torch.cat(samples, dim=1)

    def _run(self, images: Images, positions: Sequence[int], inputs: dict[str, Any]) -> Tensor:
        self._samples, self._picked, self._positions = [], None, positions
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

    def _take_input(
        self, _block: nn.Module, inputs: tuple[object, ...], named: dict[str, object]
    ) -> None:
        self._take(_first(inputs, named))

    def _take_output(
        self,
        _block: nn.Module,
        inputs: tuple[object, ...],
        named: dict[str, object],
        output: object,
    ) -> None:
        self._take(self.backbone.family.leaving(_first(inputs, named), output))

    def _take(self, tokens: object) -> None:
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
        self._samples.append(self._reduce(tokens[self._picked]))

    def _pick(self, tokens: Tensor) -> Index:
        """Index of the tokens to keep, given those of layer 0: [batch, tokens, width]."""
        patches = self._patches(tokens)
        first, end = patches.min(), patches.max() + 1
        # A slice is a view, which spares a copy of all tokens of every layer.
        together = len(patches) == end - first
        index = slice(first, end) if together else send(patches, tokens.device)
        return slice(None), index

    def _reduce(self, tokens: Tensor) -> Tensor:
        """What is kept of the picked tokens of one layer: float32 [batch, kept, width]."""
        return tokens.float()

    def _patches(self, tokens: Tensor) -> NDArray[Any]:
        """Which tokens are patches."""
        backbone, count = self.backbone, tokens.shape[1]
        assert self._image is not None
        return np.array([*backbone.family.patch_tokens(backbone.module, self._image, count)])

    def grid_of(self, count: int) -> tuple[int, int]:
        """Rows and columns of an image's patch tokens, from the size of the images and of a patch.

        Args:
            count: Patch tokens of a tile, of all its frames and modalities.

        Raises:
            ValueError: If the tokens are not those of a grid that covers the tile, or of several
                of one size.
        """
        sizes = {tuple(images.shape[-2:]) for images in modalities_of(self._image).values()}
        label = self.backbone.label
        if len(sizes) != 1:
            raise ValueError(
                f"the modalities of a tile have different sizes ({sorted(sizes)} px), so that "
                f"{label} has no one grid of tokens: make them one size"
            )
        ((height, width),) = sizes
        patch = self.backbone.family.patch(self.backbone.module)
        if patch is not None:
            if height % patch or width % patch:
                raise ValueError(
                    f"{label} cuts tiles into patches of {patch} px, and {height} x {width} px are "
                    "no multiple of it, so that tokens and pixels do not line up: make the sides "
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
            f"the {count} patch tokens of {label} are no grid over tiles of {height} x {width} px"
        )


def send(values: NDArray[Any], device: torch.device) -> Tensor:
    """Copy numbers to a device; a GPU goes on computing meanwhile."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return pinned(tensor).to(device, non_blocking=True)


def _first(inputs: tuple[object, ...], named: dict[str, object]) -> object:
    """The first argument that a module was called with."""
    return next(iter([*inputs, *named.values()]), None)
