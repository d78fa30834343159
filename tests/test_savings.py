from __future__ import annotations

from typing import Any

import torch

from terratorch_simpler.backbones import load_backbone
from terratorch_simpler.savings import measure_savings


def test_costs_are_those_of_both_backbones(tiny_prithvi: Any, images: torch.Tensor) -> None:
    backbone = load_backbone(tiny_prithvi)
    savings = measure_savings(backbone, [0, 1, 2], (images[:1], {}))
    block = sum(p.numel() for p in tiny_prithvi.blocks[0].parameters())
    assert savings.full.parameters - savings.pruned.parameters == 9 * block
    whole = measure_savings(backbone, list(range(12)), (images[:1], {}))
    assert whole.full.flops == whole.pruned.flops
    per_block = (savings.full.flops - savings.pruned.flops) / 9
    assert per_block > 0
    # What is left without any block is the patch embedding alone.
    assert 0 < savings.full.flops - 12 * per_block < per_block
    assert savings.full.seconds > 0
    assert len(tiny_prithvi.blocks) == 12
