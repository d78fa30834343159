"""What a backbone, or the model of a task, costs at every depth: for choosing one by its price."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
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
from terratorch_simpler.profiling.compiling import many_compiled
from terratorch_simpler.profiling.evidence import gather
from terratorch_simpler.profiling.findings import findings
from terratorch_simpler.profiling.interpolation import Interpolated, measure_and_interpolate
from terratorch_simpler.profiling.profiled import ProfiledModel, profiled_model
from terratorch_simpler.profiling.runs import Example
from terratorch_simpler.profiling.splitting import measure_split
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.profile import Loader, Profile, Row

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
    precision: str = "32-true",
    compile: bool = False,
    plan: PruningPlan | None = None,
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
        precision: In what to compute, in Lightning's words: ``32-true``, ``bf16-mixed``,
            ``16-mixed`` or ``bf16-true``.
        compile: Measure every depth compiled with ``torch.compile``, and what that takes; the split
            by part is measured without.
        plan: A plan for it, whose depth is named beside the full one.
        blocks: Dotted name of its list of blocks, where no rule finds the one that is meant.
        progress: Show a progress bar.
        **arguments: Arguments of the registry's builder. Weights do not change what it costs.

    Raises:
        ValueError: If it cannot be cut, the batch or size does not fit, there is no such
            accelerator, it does not compute in the precision, or the plan is another backbone's.
        FileNotFoundError: If a checkpoint does not exist.
    """
    settings = BenchSettings(batch_size, rounds, every_depth, progress, precision, compile)
    device = find_device(accelerator)
    profiled = profiled_model(backbone, blocks, **arguments)
    if batch is None:
        example = random_example(profiled, batch_size, size)
    else:
        example = example_from(profiled, batch, batch_size)
    return run_profile(profiled, example, device, settings, plan)


def run_profile(
    profiled: ProfiledModel,
    example: Example,
    device: torch.device,
    settings: BenchSettings,
    plan: PruningPlan | None = None,
    loader: Loader | None = None,
) -> Profile:
    """Measure at every depth.

    Args:
        profiled: What is measured.
        example: The batch.
        device: Where to run it.
        settings: How to measure.
        plan: Whose depth is named beside the full one.
        loader: How fast the training images come, if it was measured.

    Raises:
        ValueError: If the batch does not fit the model or the device, or nothing can be trained.
    """
    profiled.check(example)
    depth = profiled.backbone.depth
    chosen = None
    if plan is not None:
        profiled.backbone.check_plan(plan)
        chosen = plan.depth
    generators = [device.index or 0] if device.type == "cuda" else []
    dtype = torch.bfloat16 if settings.precision == "bf16-true" else None
    compiling = many_compiled(depth) if settings.compile else contextlib.nullcontext()
    with torch.random.fork_rng(generators), profiled.lent_to(device, dtype), compiling:
        bench = Bench(profiled, example, device, settings)
        flops = bench.flops()
        found = measure_and_interpolate(depth, bench.measure, TOLERANCE, settings.every_depth)
        parameters = [count_parameters(profiled.pruned(kept)) for kept in range(1, depth + 1)]
        rows = _rows(bench, found, flops, parameters)
        split = measure_split(bench)
        profile = Profile(
            profiled.label,
            str(device),
            settings.batch_size,
            image_shapes(example),
            tuple(rows),
            found.residual,
            split,
            chosen,
            settings.precision,
            settings.compile,
            loader=loader,
        )
        named = profile.named_depth, profile.row(profile.named_depth).step_seconds
        seen = gather(bench, split, profile.rows[-1].step_seconds, named, loader)
        return replace(profile, findings=findings(seen))


def _rows(
    bench: Bench, found: Interpolated, flops: list[int], parameters: list[int]
) -> Iterator[Row]:
    for kept, values in found.values.items():
        memory = [values.get(name) for name in ("inference_bytes", "step_bytes")]
        inference_bytes, step_bytes = (None if m is None else round(m) for m in memory)
        measured = kept in found.measured
        yield Row(
            depth=kept,
            parameters=parameters[kept - 1],
            flops=flops[kept - 1],
            inference_seconds=values["inference_seconds"],
            images_per_second=bench.settings.batch_size / values["inference_seconds"],
            inference_bytes=inference_bytes,
            step_seconds=values["step_seconds"],
            step_bytes=step_bytes,
            times="measured" if measured else "interpolated",
            compile_seconds=bench.compiled.seconds.get(kept) if bench.compiled else None,
            **(bench.ranges[kept] if measured else {}),
        )
