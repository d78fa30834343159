"""What a backbone, or the model of a task, costs at every depth: for choosing one by its price."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from terratorch_simpler.backbones.backbone import count_parameters
from terratorch_simpler.lightning import find_device
from terratorch_simpler.profiling.batch import example_from, random_example
from terratorch_simpler.profiling.bench import (
    BATCH_SIZE,
    ROUNDS,
    Bench,
    BenchSettings,
    image_shapes,
)
from terratorch_simpler.profiling.interpolation import measure_and_interpolate
from terratorch_simpler.profiling.profiled import ProfiledModel, profiled_model
from terratorch_simpler.profiling.runs import Example
from terratorch_simpler.profiling.splitting import measure_split
from terratorch_simpler.results.profile import Profile, Row

TOLERANCE = 0.05
"""Largest relative error that interpolated times and memory may have where they were checked."""


def profile(
    backbone: str | nn.Module,
    batch: Any = None,
    *,
    size: int | None = None,
    batch_size: int = BATCH_SIZE,
    accelerator: str = "auto",
    every_depth: bool = False,
    rounds: int = ROUNDS,
    blocks: str | None = None,
    progress: bool = False,
    **arguments: Any,
) -> Profile:
    """Measure what a backbone, or the model of a task, costs at every depth.

    Parameters and FLOPs are exact. Times and peak memory are measured at a few depths in turn and
    interpolated linearly between them; where a measured depth shows that this misses by more than
    5 %, more depths are measured.

    Args:
        backbone: A name of TerraTorch's backbone registry, a full backbone, or the model that
            ``EncoderDecoderFactory`` builds; of one that detects objects, backbone and necks. A
            module is left as it was.
        batch: A batch as it takes one, where random images would not do: its values do not matter.
        size: Height and width of random images in pixels; None for what the backbone was built for.
        batch_size: Images in the batch; a batch given is repeated or cut to it.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        every_depth: Measure every depth.
        rounds: Times that each depth is timed; the median counts.
        blocks: Dotted name of its list of blocks, where no rule finds the one that is meant.
        progress: Show a progress bar.
        **arguments: Arguments of the registry's builder. Weights do not change what it costs.

    Raises:
        ValueError: If it cannot be cut, the batch or size does not fit, or there is no such
            accelerator.
        FileNotFoundError: If a checkpoint does not exist.
    """
    settings = BenchSettings(batch_size, rounds, every_depth, progress)
    device = find_device(accelerator)
    profiled = profiled_model(backbone, blocks, **arguments)
    if batch is None:
        example = random_example(profiled, batch_size, size)
    else:
        example = example_from(profiled, batch, batch_size)
    return run_profile(profiled, example, device, settings)


def run_profile(
    profiled: ProfiledModel, example: Example, device: torch.device, settings: BenchSettings
) -> Profile:
    """Measure at every depth.

    Raises:
        ValueError: If the batch does not fit the model or the device, or nothing can be trained.
    """
    profiled.check(example)
    generators = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(generators), profiled.lent_to(device):
        bench = Bench(profiled, example, device, settings)
        depth = profiled.backbone.depth
        flops = bench.flops()
        found = measure_and_interpolate(depth, bench.measure, TOLERANCE, settings.every_depth)
        parameters = [count_parameters(profiled.pruned(kept)) for kept in range(1, depth + 1)]
        split = measure_split(bench)
    rows = []
    for kept, values in found.values.items():
        memory = [values.get(name) for name in ("inference_bytes", "step_bytes")]
        inference_bytes, step_bytes = (None if m is None else round(m) for m in memory)
        rows.append(
            Row(
                depth=kept,
                parameters=parameters[kept - 1],
                flops=flops[kept - 1],
                inference_seconds=values["inference_seconds"],
                images_per_second=settings.batch_size / values["inference_seconds"],
                inference_bytes=inference_bytes,
                step_seconds=values["step_seconds"],
                step_bytes=step_bytes,
                times="measured" if kept in found.measured else "interpolated",
                **(bench.ranges[kept] if kept in found.measured else {}),
            )
        )
    return Profile(
        profiled.label,
        str(device),
        settings.batch_size,
        image_shapes(example),
        tuple(rows),
        found.residual,
        split,
    )
