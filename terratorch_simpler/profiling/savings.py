"""What pruning saves: parameters, FLOPs, time and peak memory of a forward pass."""

from __future__ import annotations

import torch
from torch import nn

from terratorch_simpler.backbones.backbone import count_parameters
from terratorch_simpler.profiling.costs import count_flops, held_by, peak_growth, time_in_rounds
from terratorch_simpler.profiling.runs import Example, Run, inference
from terratorch_simpler.results.savings import Cost, Savings

RUNS = 7


def measure_savings(full: nn.Module, pruned: nn.Module, example: Example) -> Savings:
    """Measure both backbones in turn on one tile, on the CPU.

    Args:
        full: The full backbone.
        pruned: The same one with the blocks that the plan keeps.
        example: Image, or images by modality, of one tile as the backbone takes them, and its other
            inputs.
    """
    modules, device = (full, pruned), torch.device("cpu")

    def prepare(index: int) -> Run:
        return inference(modules[index], example)

    training = full.training
    flops = [count_flops(prepare(index)) for index in (0, 1)]
    growth = [peak_growth(prepare(index), device) for index in (0, 1)]
    seconds = time_in_rounds(prepare, (0, 1), RUNS, device)
    full.train(training)
    costs = []
    for index, module in enumerate(modules):
        grown = growth[index]
        memory = None if grown is None else held_by(module, example) + grown
        times = seconds[index]
        costs.append(Cost(count_parameters(module), flops[index], min(times), memory, times))
    return Savings(*costs)
