"""layer_features(): samples of every layer of a backbone, from one pass over tiles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from terratorch_simpler.backbones.backbone import Backbone, load_backbone
from terratorch_simpler.layers.sampler import LayerSampler, check_drawn
from terratorch_simpler.lightning import run_pass
from terratorch_simpler.tiles import Pooling
from terratorch_simpler.tiles.batches import Tiles
from terratorch_simpler.tiles.checks import check_finite
from terratorch_simpler.tiles.progress import TilesBar
from terratorch_simpler.tiles.sources import (
    Source,
    TileInput,
    open_source,
    samples_and_seed,
    with_statistics,
)
from terratorch_simpler.tiles.tile_pass import TilePass


def layer_features(
    backbone: str | nn.Module,
    tiles: TileInput,
    *,
    pooling: Pooling = "tokens",
    tokens: int = 16,
    samples: int | None = None,
    seed: int | None = None,
    accelerator: str = "auto",
    precision: str = "auto",
    progress: bool = False,
    blocks: str | None = None,
    **arguments: Any,
) -> Tensor:
    """Samples of every layer of a backbone, from one pass over tiles.

    These are what :func:`terratorch_simpler.select` compares: layer 0 is the input of the first
    block, layer l the raw output of block l, before any final norm; special tokens are left out.
    The same tokens of a tile are taken at every layer, whatever the size of the batches.

    Args:
        backbone: A name of TerraTorch's backbone registry, or a backbone.
        tiles: As :func:`terratorch_simpler.select` takes them.
        pooling: ``tokens`` (samples are patch tokens) or ``mean`` (one sample a tile).
        tokens: Patch tokens drawn of each tile, or all if there are fewer.
        samples: Most tiles to use; by default what the tiles say, or 512.
        seed: Seed of the choice of tiles and tokens; by default what the tiles say, or 0.
        accelerator: Lightning's ``accelerator``; one device is used.
        precision: Lightning's ``precision``; ``auto`` is ``bf16-mixed`` on CUDA devices that have
            it, else ``32-true``.
        progress: Show a progress bar.
        blocks: Dotted name of the backbone's list of blocks, where no rule finds the one that is
            meant.
        **arguments: Arguments of the registry's builder, such as ``pretrained=True``.

    Returns:
        float32 tensor [depth + 1, tiles, samples of a tile, width] on the CPU; with ``mean`` there
        is one sample a tile.

    Raises:
        ValueError: If the backbone cannot be cut, the tiles do not fit it or give different numbers
            of tokens, there are none, or an argument is wrong.
        FileNotFoundError: If a checkpoint does not exist.

    Example:
        >>> from terratorch_simpler import linear_cka
        >>> tiles = [torch.randn(8, 6, 32, 32)]
        >>> layers = layer_features("prithvi_eo_tiny", tiles, tokens=4)
        >>> layers.shape
        torch.Size([5, 8, 4, 256])
        >>> 0 < linear_cka(layers[1].flatten(0, 1), layers[4].flatten(0, 1)) < 1
        tensor(True)
    """
    return read_layers(
        load_backbone(backbone, blocks=blocks, **arguments),
        tiles,
        pooling=pooling,
        tokens=tokens,
        samples=samples,
        seed=seed,
        accelerator=accelerator,
        precision=precision,
        progress=progress,
    )


def read_layers(
    backbone: Backbone,
    tiles: TileInput,
    *,
    pooling: Pooling,
    tokens: int,
    samples: int | None = None,
    seed: int | None = None,
    accelerator: str = "auto",
    precision: str = "auto",
    progress: bool = False,
    anchors: int = 0,
) -> Tensor:
    """As :func:`layer_features`, for a backbone that is built.

    With ``anchors`` the partners of so many tokens of a tile follow its samples, as
    :class:`~terratorch_simpler.layers.sampler.LayerSampler` takes them.

    Raises:
        ValueError: As :func:`layer_features`, or if the tokens have no partners.
    """
    samples, seed = samples_and_seed(tiles, samples, seed)
    source = with_statistics(open_source(tiles, samples, seed), backbone)
    sampler = LayerSampler(backbone, pooling, tokens, seed, anchors)
    features = _Features(sampler, source, samples)
    with features.sampler:
        bar = TilesBar("Reading layers") if progress else None
        run_pass(features, source.loop, accelerator=accelerator, precision=precision, bar=bar)
    if not features.kept:
        raise ValueError("there are no tiles: the iterable of batches is empty")
    if anchors and sampler.no_partners is not None:
        raise ValueError(f"the tokens of {backbone.label} have no partners: {sampler.no_partners}")
    return torch.cat(features.kept, dim=1)


class _Features(TilePass):
    """Keeps the samples of every layer, on the CPU."""

    def __init__(self, sampler: LayerSampler, source: Source, samples: int) -> None:
        super().__init__(sampler.backbone, source, samples)
        self.sampler = sampler
        self.kept: list[Tensor] = []

    def add(self, tiles: Tiles, positions: range) -> None:
        """Run the tiles."""
        check_finite(tiles.image, tiles.names)
        samples = self.sampler(tiles.image, positions, **tiles.inputs).cpu()
        check_drawn(samples.shape[2], self.kept[0].shape[2] if self.kept else None)
        if not torch.isfinite(samples).all():
            raise self.not_finite()
        self.kept.append(samples)
