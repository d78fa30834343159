"""What pruning saves: parameters, FLOPs and measured time of a forward pass."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from terratorch_simpler.backbones import Backbone, count_parameters
from terratorch_simpler.pruning import prune_module

RUNS = 7


@dataclass(frozen=True)
class Cost:
    """Cost of one backbone for one tile.

    Attributes:
        parameters: Number of parameters.
        flops: Floating-point operations of a forward pass, as torch's FlopCounterMode counts them.
        seconds: Time of a forward pass on the CPU, the fastest of 7.
    """

    parameters: int
    flops: int
    seconds: float


@dataclass(frozen=True)
class Savings:
    """Costs of the full and the pruned backbone."""

    full: Cost
    pruned: Cost


def measure_savings(backbone: Backbone, kept_blocks: list[int], image: Tensor) -> Savings:
    """Measure both backbones in turn on one tile, on the CPU.

    Args:
        backbone: The full backbone.
        kept_blocks: What the plan keeps.
        image: One tile, as the backbone takes it.
    """
    pair = (backbone.module, prune_module(backbone.module, kept_blocks))
    training = backbone.module.training
    seconds: list[list[float]] = [[], []]
    with torch.inference_mode():
        for module in pair:
            module.eval()
            module(image)
        for _ in range(RUNS):
            for times, module in zip(seconds, pair, strict=True):
                start = time.perf_counter()
                module(image)
                times.append(time.perf_counter() - start)
        full, pruned = (
            Cost(count_parameters(module), _flops(module, image), min(times))
            for times, module in zip(seconds, pair, strict=True)
        )
    backbone.module.train(training)
    return Savings(full, pruned)


def _flops(module: nn.Module, image: Tensor) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        module(image)
    return counter.get_total_flops()
