"""What one model costs on one batch: FLOPs, peak memory and time, of inference and of training."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from time import perf_counter
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity
from torch.profiler import profile as record
from torch.utils.flop_counter import FlopCounterMode

from terratorch_simpler.profiling.runs import Example, Run, tensors_in

Key = TypeVar("Key", bound=Hashable)


def count_flops(run: Run) -> int:
    """Floating-point operations of matrix products and convolutions, as torch counts them."""
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return counter.get_total_flops()


def flops_by_depth(run: Run, blocks: Iterable[Sequence[nn.Module]]) -> list[int]:
    """FLOPs at every depth, from one run of the full model.

    Exact even where blocks differ, as those with local and global attention do: what is not in a
    block stays the same at every depth.

    Args:
        run: A run of the full model.
        blocks: The modules that are run of each of its blocks, in order.

    Returns:
        FLOPs with the first block, with the first two, and so on.
    """
    counter = FlopCounterMode(display=False)
    blocks = list(blocks)
    spent = [0] * len(blocks)
    handles = []
    for index, block in enumerate(blocks):

        def enter(*_: object, index: int = index) -> None:
            spent[index] -= counter.get_total_flops()

        def leave(*_: object, index: int = index) -> None:
            spent[index] += counter.get_total_flops()

        for part in block:
            handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    try:
        with counter:
            run()
    finally:
        for handle in handles:
            handle.remove()
    total = counter.get_total_flops()
    return [total - sum(spent[depth:]) for depth in range(1, len(blocks) + 1)]


def held_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors; those that share memory count once."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def held_by(module: nn.Module, example: Example, optimizer: Optimizer | None = None) -> int:
    """Bytes that are there before a run: weights, buffers, batch, and state of the optimizer."""
    states = (
        [optimizer.state.get(weight, {}) for weight in module.parameters()] if optimizer else []
    )
    return held_bytes(
        [*module.parameters(), *module.buffers(), *tensors_in(example), *tensors_in(states)]
    )


def peak_growth(run: Run, device: torch.device) -> int | None:
    """Most bytes that a run holds at once beyond what was there before it.

    On CUDA they are those of ``torch.cuda.max_memory_allocated``, on the CPU those that torch's
    profiler sees its allocator give out and take back. Both count tensors, among them the
    temporary ones of a kernel, and neither what the allocator keeps for later or the process needs
    besides. On a training step of Prithvi 100M (4 images, 224 px) this was 499 MB, and the
    resident memory of the process grew by 573 MB.

    Returns:
        Bytes; None on other devices, which keep no such record.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        return None
    # The profiler's library reports its start and a missing GPU on stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with record(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    results = profiler.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def time_in_rounds(
    prepare: Callable[[Key], Run], keys: Iterable[Key], rounds: int, device: torch.device
) -> dict[Key, list[float]]:
    """Time several runs in turn, again and again, so that a drift of the machine hits all alike.

    Args:
        prepare: Gives what to run for a key; its own time does not count.
        keys: What to time. Each has run before, to warm up.
        rounds: How often.
        device: Where they run.

    Returns:
        Seconds of each round, by key.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in keys}
    for _ in range(rounds):
        for key, times in seconds.items():
            run = prepare(key)
            wait(device)
            start = perf_counter()
            run()
            wait(device)
            times.append(perf_counter() - start)
    return seconds


def wait(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
