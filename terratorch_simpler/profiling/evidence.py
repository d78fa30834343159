"""What findings are made of: the operators of a forward pass, and how the process is set."""

from __future__ import annotations

import os

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as record

from terratorch_simpler.profiling.bench import Bench
from terratorch_simpler.profiling.findings import Operator, Seen
from terratorch_simpler.results.parts import Split
from terratorch_simpler.results.profile import Loader


def gather(
    bench: Bench,
    split: Split,
    step_seconds: float,
    named: tuple[int, float],
    loader: Loader | None,
) -> Seen:
    """What can be seen of a model at full depth.

    Args:
        bench: Runs it.
        split: What each part costs.
        step_seconds: A training step at full depth.
        named: Another depth, and the seconds of a training step there.
        loader: How fast the training images come, if it was measured.
    """
    cuda = bench.device.type == "cuda"
    return Seen(
        bench.device.type,
        bench.settings.precision,
        operators_of(bench),
        split,
        bench.settings.batch_size,
        step_seconds,
        named,
        torch.cuda.get_device_capability(bench.device) if cuda else None,
        torch.get_float32_matmul_precision(),
        torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        loader,
    )


def operators_of(bench: Bench) -> list[Operator]:
    """The operators of one forward pass at full depth, in the order of their calls."""
    cuda = bench.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    run = bench.eager("inference", bench.profiled.pruned(bench.profiled.backbone.depth))
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with record(activities=activities) as profiler:
        run()
        bench.wait()
    found = []
    for event in profiler.events() or []:
        # Kernels, which have other names, are counted with the operators that start them.
        if not event.name.startswith("aten::"):
            continue
        within, above = [], event.cpu_parent
        while above is not None:
            within.append(above.name)
            above = above.cpu_parent
        microseconds = event.device_time_total if cuda else event.cpu_time_total
        within = [name for name in within if name.startswith("aten::")]
        found.append(Operator(event.name, microseconds / 1e6, tuple(within)))
    return found
