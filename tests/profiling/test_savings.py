from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

from terratorch_simpler.backbones.backbone import load_backbone
from terratorch_simpler.profiling.savings import measure_savings
from terratorch_simpler.pruning import prune_backbone
from terratorch_simpler.results.savings import Savings
from terratorch_simpler.results.wording import savings_rows


def savings_of(module: nn.Module, kept: list[int], image: Tensor) -> Savings:
    return measure_savings(module, prune_backbone(load_backbone(module), kept), (image, {}))


def test_costs_are_those_of_both_backbones(tiny_prithvi: Any, images: Tensor) -> None:
    savings = savings_of(tiny_prithvi, [0, 1, 2], images[:1])
    block = sum(p.numel() for p in tiny_prithvi.blocks[0].parameters())
    assert savings.full.parameters - savings.pruned.parameters == 9 * block
    whole = savings_of(tiny_prithvi, list(range(12)), images[:1])
    assert whole.full.flops == whole.pruned.flops
    per_block = (savings.full.flops - savings.pruned.flops) / 9
    assert per_block > 0
    # What is left without any block is the patch embedding alone.
    assert 0 < savings.full.flops - 12 * per_block < per_block
    assert savings.full.seconds > 0
    assert len(tiny_prithvi.blocks) == 12


def test_any_blocks_can_be_kept(tiny_prithvi: Any, images: Tensor) -> None:
    first, spread = (
        savings_of(tiny_prithvi, kept, images[:1]).pruned for kept in ([0, 1, 2], [3, 7, 11])
    )
    assert (spread.parameters, spread.flops, spread.memory) == (
        first.parameters,
        first.flops,
        first.memory,
    )


def test_peak_memory_is_that_of_the_weights_and_some_tokens(
    tiny_prithvi: Any, images: Tensor
) -> None:
    savings = savings_of(tiny_prithvi, [0], images[:1])
    for cost in (savings.full, savings.pruned):
        assert cost.memory is not None
        assert 0 < cost.memory - 4 * cost.parameters < 2_000_000
    assert [row[0] for row in savings_rows(savings)][-1] == "peak memory (MB)"


def test_the_time_of_every_pass_is_kept(tiny_prithvi: Any, images: Tensor) -> None:
    savings = savings_of(tiny_prithvi, [0, 1, 2], images[:1])
    assert savings.faster is not None
    low, high = savings.faster
    for cost in (savings.full, savings.pruned):
        assert cost.times is not None
        assert len(cost.times) == 7
        assert cost.seconds == min(cost.times)
    assert 0 < low <= savings.full.seconds / savings.pruned.seconds <= high


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_stays(build: Any, images: Tensor, training: bool) -> None:
    module = build().train(training)
    savings_of(module, [0], images[:1])
    assert {layer.training for layer in module.modules()} == {training}
