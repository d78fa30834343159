from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from terratorch_simpler.backbones.backbone import load_backbone
from terratorch_simpler.layers.sampler import LayerSampler
from terratorch_simpler.precision import full_float32
from terratorch_simpler.selection.groups import TILES_PER_GROUP
from terratorch_simpler.tiles import Pooling

TOKENS = 3


def sample(
    module: nn.Module, tiles: Tensor, pooling: Pooling, tokens: int = TOKENS, seed: int = 0
) -> Tensor:
    with LayerSampler(load_backbone(module), pooling, tokens, seed) as sampler:
        return sampler(tiles, positions=range(len(tiles)))


@full_float32()
def layers_of(module: Any, tiles: Tensor) -> list[Tensor]:
    """Tokens of every layer without the class token, by TerraTorch's parts put together here."""
    with torch.no_grad():
        place = module.interpolate_pos_encoding((1, *tiles.shape[-2:]))
        patches = module.patch_embed(tiles[:, :, None]) + place[:, 1:]
        special = (module.cls_token + place[:, :1]).expand(len(tiles), -1, -1)
        layers = [torch.cat([special, patches], dim=1)]
        for block in module.blocks:
            layers.append(block(layers[-1]))
    return [layer[:, 1:] for layer in layers]


@pytest.fixture(scope="module")
def tiles() -> Tensor:
    """Nineteen tiles of 16 patches each."""
    return torch.randn(19, 6, 64, 64, generator=torch.Generator().manual_seed(3))


def test_mean_is_that_of_the_patch_tokens_at_every_layer(
    tiny_prithvi: nn.Module, tiles: Tensor
) -> None:
    """The input of block 1 first, then raw block outputs: no final norm, no class token."""
    samples = sample(tiny_prithvi, tiles[:2], "mean")
    expected = torch.stack(
        [layer.mean(dim=1, keepdim=True) for layer in layers_of(tiny_prithvi, tiles[:2])]
    )
    torch.testing.assert_close(samples, expected, rtol=1e-5, atol=1e-6)


def test_final_norm_would_have_been_seen(tiny_prithvi: Any, tiles: Tensor) -> None:
    raw = layers_of(tiny_prithvi, tiles[:2])[-1]
    assert (tiny_prithvi.norm(raw) - raw).abs().max() > 0.1


def test_tokens_of_a_tile_are_its_own_and_the_same_at_every_layer(
    tiny_prithvi: nn.Module, tiles: Tensor
) -> None:
    """Each drawn token is one patch token, at one place for all layers, and none is drawn twice."""
    samples = sample(tiny_prithvi, tiles[:2], "tokens")
    layers = torch.stack(layers_of(tiny_prithvi, tiles[:2]))
    distance = torch.cdist(samples, layers)
    places = distance.argmin(dim=-1)
    assert distance.amin(dim=-1).max() < 1e-3
    assert torch.equal(places, places[:1].expand_as(places))
    assert all(len(set(row)) == TOKENS for row in places[0].tolist())
    assert places[0, 0].tolist() != places[0, 1].tolist()


def test_all_tokens_are_taken_where_there_are_fewer(tiny_prithvi: nn.Module, tiles: Tensor) -> None:
    samples = sample(tiny_prithvi, tiles[:2], "tokens", tokens=100)
    layers = torch.stack(layers_of(tiny_prithvi, tiles[:2]))
    assert samples.shape == layers.shape
    torch.testing.assert_close(
        samples.sort(dim=2).values, layers.sort(dim=2).values, rtol=1e-5, atol=1e-6
    )


def test_samples_are_float32_for_any_weights(build: Callable[..., Any], tiles: Tensor) -> None:
    module = build("prithvi_eo_tiny").to(torch.bfloat16)
    for pooling in TILES_PER_GROUP:
        assert sample(module, tiles[:2].bfloat16(), pooling).dtype == torch.float32


@pytest.mark.parametrize("pooling", TILES_PER_GROUP)
def test_prompts_are_left_out(build: Callable[..., Any], tiles: Tensor, pooling: Pooling) -> None:
    """While a block runs, prompts stand between the class token and the patches."""
    module = build("prithvi_eo_tiny", vpt=True, vpt_n_tokens=4)
    seen: list[Tensor] = []
    handles = [module.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))]
    handles += [
        block.register_forward_hook(lambda _, __, output: seen.append(output))
        for block in module.blocks
    ]
    with torch.no_grad(), full_float32():
        module(tiles[:2])
    for handle in handles:
        handle.remove()
    patches = torch.stack(seen)[:, :, 1 + 4 :]
    assert patches.shape[2] == 16
    samples = sample(module, tiles[:2], pooling, tokens=100)
    expected = patches.mean(dim=2, keepdim=True) if pooling == "mean" else patches
    torch.testing.assert_close(
        samples.sort(dim=2).values, expected.sort(dim=2).values, rtol=1e-5, atol=1e-6
    )


def test_another_seed_draws_other_tokens(tiny_prithvi: nn.Module, tiles: Tensor) -> None:
    first, again, other = (
        sample(tiny_prithvi, tiles[:2], "tokens", seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_hook_stays_behind(build: Callable[..., Any], tiles: Tensor) -> None:
    module = build("prithvi_eo_tiny")
    sampler = LayerSampler(load_backbone(module), "mean", 1, 0)

    def interrupted() -> None:
        with sampler:
            sampler(tiles[:1], positions=[0])
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        interrupted()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_a_tile_gets_its_tokens_by_its_place(tiny_prithvi: nn.Module, tiles: Tensor) -> None:
    together = sample(tiny_prithvi, tiles[:4], "tokens")
    with LayerSampler(load_backbone(tiny_prithvi), "tokens", TOKENS, 0) as sampler:
        alone = sampler(tiles[[1, 3]], positions=[1, 3])
    torch.testing.assert_close(alone, together[:, [1, 3]], rtol=1e-4, atol=1e-4)
