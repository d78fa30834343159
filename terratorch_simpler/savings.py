"""What pruning saves: parameters, FLOPs and measured time of a forward pass."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
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


def measure_savings(
    backbone: Backbone, kept_blocks: list[int], example: tuple[Any, dict[str, Any]]
) -> Savings:
    """Measure both backbones in turn on one tile, on the CPU.

    Args:
        backbone: The full backbone.
        kept_blocks: What the plan keeps.
        example: Image, or images by modality, of one tile as the backbone takes them, and its other
            inputs.
    """
    image, inputs = example
    pruned = prune_module(backbone.module, kept_blocks, family=backbone.family)
    pair = (backbone.module, pruned)

    def run(module: nn.Module) -> None:
        # TiM writes into the dict that it is given.
        module(dict(image) if isinstance(image, Mapping) else image, **inputs)

    training = backbone.module.training
    seconds: list[list[float]] = [[], []]
    with torch.inference_mode():
        for module in pair:
            module.eval()
            run(module)
        for _ in range(RUNS):
            for times, module in zip(seconds, pair, strict=True):
                start = time.perf_counter()
                run(module)
                times.append(time.perf_counter() - start)
        costs = []
        for times, module in zip(seconds, pair, strict=True):
            counter = FlopCounterMode(display=False)
            with counter:
                run(module)
            costs.append(Cost(count_parameters(module), counter.get_total_flops(), min(times)))
    backbone.module.train(training)
    return Savings(*costs)
