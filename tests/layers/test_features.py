from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import terratorch_simpler as simpler
from terratorch_simpler.precision import full_float32
from terratorch_simpler.tiles import Pooling
from tests.rasters import BANDS, write_tiles

TOKENS = 3


@pytest.fixture(scope="module")
def tiles() -> Tensor:
    """Nine tiles of 16 patches each."""
    return torch.randn(9, 6, 64, 64, generator=torch.Generator().manual_seed(3))


def features(module: nn.Module, tiles: Any, **options: Any) -> Tensor:
    return simpler.layer_features(module, tiles, **{"accelerator": "cpu"} | options)


def by_hand(module: Any, tiles: Tensor) -> Tensor:
    """Patch tokens of every layer, [layers, tiles, patches, width], one tile at a time."""
    per_tile = []
    for tile in tiles:
        seen: list[Tensor] = []
        handles = [
            module.blocks[0].register_forward_pre_hook(
                lambda _, given, to=seen: to.append(given[0])
            ),
            *(
                block.register_forward_hook(lambda _, __, y, to=seen: to.append(y))
                for block in module.blocks
            ),
        ]
        with torch.no_grad(), full_float32():
            module(tile[None])
        for handle in handles:
            handle.remove()
        per_tile.append(torch.cat(seen)[:, 1:])
    return torch.stack(per_tile, dim=1)


def drawn(layers: Tensor, seed: int) -> Tensor:
    patches = np.arange(1, 1 + layers.shape[2])
    picked = [
        np.random.default_rng([seed, place]).permutation(patches)[:TOKENS] - 1
        for place in range(layers.shape[1])
    ]
    return torch.stack([layers[:, i, chosen] for i, chosen in enumerate(picked)], dim=1)


@pytest.mark.parametrize("batch", [1, 4, 9])
@pytest.mark.parametrize("pooling", ["tokens", "mean"])
def test_they_are_those_of_hooks_written_by_hand(
    tiny_prithvi: nn.Module, tiles: Tensor, pooling: Pooling, batch: int
) -> None:
    layers = by_hand(tiny_prithvi, tiles)
    expected = layers.mean(dim=2, keepdim=True) if pooling == "mean" else drawn(layers, seed=5)
    given = features(
        tiny_prithvi, torch.split(tiles, batch), pooling=pooling, tokens=TOKENS, seed=5
    )
    assert (given.dtype, given.device.type) == (torch.float32, "cpu")
    assert given.shape == (13, 9, 1 if pooling == "mean" else TOKENS, 192)
    assert not given.is_inference()
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-6 * expected.abs().max().item())


def test_samples_is_the_most_tiles_to_use(tiny_prithvi: nn.Module, tiles: Tensor) -> None:
    given = features(tiny_prithvi, torch.split(tiles, 4), samples=6)
    assert given.shape[1] == 6
    assert features(tiny_prithvi, torch.split(tiles, 4)).shape[1] == 9


def test_chips_are_normalised_and_give_samples_and_seed(
    tiny_prithvi: nn.Module, tmp_path: Path
) -> None:
    means, stds = [1.0] * 6, [2.0] * 6
    options: dict[str, Any] = {"size": 64, "means": means, "stds": stds}
    chips = simpler.GeoTiffTiles(write_tiles(tmp_path, 6), BANDS, samples=5, seed=3, **options)
    images = torch.cat([batch["image"] for batch in chips])
    given = features(tiny_prithvi, chips, tokens=TOKENS)
    expected = drawn(by_hand(tiny_prithvi, (images - 1) / 2), seed=3)
    assert given.shape[1] == 5
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-6)


def without_tiles() -> Iterator[Tensor]:
    yield from ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tiles": [torch.zeros(4, 5, 64, 64)]}, "reads 6 bands, the tiles have shape"),
        ({"tiles": [torch.full((4, 6, 64, 64), torch.nan)]}, "the tiles hold NaN or infinity"),
        ({"tiles": "tiles/"}, "tiles must be GeoTiffTiles, a DataLoader"),
        ({"tiles": ["a.tif"]}, "a batch of tiles must be a tensor"),
        ({"tiles": without_tiles()}, "there are no tiles"),
        (
            {"tiles": [torch.zeros(2, 6, 64, 64), torch.zeros(2, 6, 32, 32)]},
            "some tiles have 4 patch tokens, others at least 16",
        ),
        ({"pooling": "cls"}, "pooling must be tokens or mean, got 'cls'"),
        ({"tokens": 0}, "tokens must be at least 1, got 0"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"blocks": "no.such"}, "no.such"),
        ({"ckpt_path": "a.pt"}, "only go with a name"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_what_is_refused(
    tiny_prithvi: nn.Module, tiles: Tensor, change: dict[str, Any], message: str
) -> None:
    options = {"tiles": [tiles]} | change
    with pytest.raises(ValueError, match=message):
        features(tiny_prithvi, **options)


def test_weights_that_are_broken(build: Any, tiles: Tensor) -> None:
    module = build()
    with torch.no_grad():
        module.blocks[3].mlp.fc1.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="gives NaN or infinity on these tiles: check its weights"):
        features(module, [tiles])
