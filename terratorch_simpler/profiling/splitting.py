"""Splitting what a model costs at full depth by its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from statistics import median

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from terratorch_simpler.profiling.bench import Bench
from terratorch_simpler.profiling.boundaries import Boundaries
from terratorch_simpler.profiling.costs import held_bytes, time_in_rounds
from terratorch_simpler.profiling.runs import Run, forward, tensors_in
from terratorch_simpler.profiling.timeline import Clock, Timeline
from terratorch_simpler.results.parts import BLOCKS, PATCH, Part, Split

UPDATE = "update"
"""Of the optimizer: of no part."""
Phase = tuple[str, str]
"""A phase of a run (inference, forward, backward, update), and a part."""


def measure_split(bench: Bench) -> Split:
    """What each part costs, measured beside the whole in the same rounds.

    Raises:
        ValueError: If the model does not run with the batch.
    """
    bounds = Boundaries.of(bench.profiled)
    with bench.blame():
        flops, owners = _flops_and_owners(bench, bounds)
        kept = _kept(bench, bounds)
        wholes, parts = _times(bench, bounds)
    times = {phase: median(seconds) for phase, seconds in parts.items()}
    found = []
    for name in bounds.names:
        weights, buffers = owners.get(name, ([], []))
        trained = [weight for weight in weights if weight.requires_grad]
        found.append(
            Part(
                name,
                sum(weight.numel() for weight in weights),
                sum(weight.numel() for weight in trained),
                round(flops.get(name, 0)),
                times.get(("inference", name), 0.0),
                times.get(("forward", name), 0.0),
                times.get(("backward", name), 0.0),
                kept.get(name, 0),
                # A gradient and the two moments of AdamW.
                held_bytes([*weights, *buffers]) + 3 * held_bytes(trained),
            )
        )
    return Split(
        bench.profiled.backbone.depth,
        tuple(found),
        times["update", UPDATE],
        median(wholes["inference"]),
        median(wholes["step"]),
    )


def _flops_and_owners(
    bench: Bench, bounds: Boundaries
) -> tuple[Mapping[str, float], dict[str, tuple[list[Tensor], list[Tensor]]]]:
    """FLOPs of each part, and its weights and buffers: those of the modules that first run in it.

    What is in no module that runs goes with what holds it.
    """
    counter = FlopCounterMode(display=False)
    line = Timeline[str, int](counter.get_total_flops)
    first: dict[nn.Module, str] = {}

    def note(module: nn.Module, _inputs: object) -> None:
        first.setdefault(module, line.current or PATCH)

    run = bench.eager("inference", bounds.whole)
    with bounds.watched(line.mark), ExitStack() as hooks:
        # After those of the boundaries, which have told by then where a module belongs.
        for module in bounds.whole.modules():
            hooks.callback(module.register_forward_pre_hook(note).remove)
        with counter:
            line.mark(PATCH)
            run()
        flops = line.spent(lambda start, end: end - start)
    if BLOCKS not in flops:
        raise ValueError("none of its blocks is run: name another list with blocks=")
    blocks = {layer for block in bench.profiled.backbone.block_list for layer in block.modules()}
    parts: dict[str, str] = {}
    owners: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
    seen: set[int] = set()
    for name, module in bounds.whole.named_modules():
        above = parts.get(name.rpartition(".")[0], PATCH)
        parts[name] = BLOCKS if module in blocks else first.get(module, above)
        kinds = owners.setdefault(parts[name], ([], []))
        for kind, tensors in zip(
            kinds, (module.parameters(recurse=False), module.buffers(recurse=False)), strict=True
        ):
            kind += [tensor for tensor in tensors if id(tensor) not in seen]
            seen |= {id(tensor) for tensor in kind}
    return flops, owners


def _kept(bench: Bench, bounds: Boundaries) -> dict[str, int]:
    """Bytes that the forward pass of each part keeps for the backward pass, each once."""
    module = bounds.whole
    there = [*module.parameters(), *module.buffers(), *tensors_in(bench.example)]
    known = {tensor.untyped_storage().data_ptr() for tensor in there}
    kept: dict[str, list[Tensor]] = {}
    line = Timeline[str, None](lambda: None)

    def pack(tensor: Tensor) -> Tensor:
        # Without its graph: a node that holds its own output would never be freed.
        tensor = tensor.detach()
        place = tensor.untyped_storage().data_ptr()
        if place not in known:
            known.add(place)
            kept.setdefault(line.current or PATCH, []).append(tensor)
        return tensor

    module.train()
    line.mark(PATCH)
    with (
        bounds.watched(line.mark),
        saved_tensors_hooks(pack, lambda tensor: tensor),
        bench.precision.forward_context(),
    ):
        forward(module, bench.example)
    return {name: held_bytes(tensors) for name, tensors in kept.items()}


def _times(
    bench: Bench, bounds: Boundaries
) -> tuple[dict[str, list[float]], dict[Phase, list[float]]]:
    """Seconds of the whole, and of each phase of each part, round by round."""
    wholes: dict[str, list[float]] = {"inference": [], "step": []}
    parts: dict[Phase, list[float]] = {}
    for turn in range(-1, bench.settings.rounds):
        for name, times in wholes.items():
            whole = time_in_rounds(
                lambda name: bench.eager(name, bounds.whole), [name], 1, bench.device
            )
            found = _time_parts(bench, bounds, name)
            # The first turn warms up.
            if turn >= 0:
                times += whole[name]
                for phase, seconds in found.items():
                    parts.setdefault(phase, []).append(seconds)
    return wholes, parts


def _time_parts(bench: Bench, bounds: Boundaries, name: str) -> dict[Phase, float]:
    clock = Clock(bench.device)
    line = Timeline[Phase, object](clock.stamp)
    phase = "inference" if name == "inference" else "forward"

    def ahead(part: str) -> None:
        # Blocks that are run once more for their gradients belong to the backward pass.
        if line.current is not None and line.current[0] == phase:
            line.mark((phase, part))

    def back(part: str) -> None:
        line.mark(("backward", part))

    def reached(next_phase: str) -> None:
        line.mark((next_phase, UPDATE if next_phase == UPDATE else bounds.names[-1]))

    run: Run = bench.eager(name, bounds.whole, reached)
    watched: Callable[[str], None] | None = None if name == "inference" else back
    with bounds.watched(ahead, watched):
        bench.wait()
        line.mark((phase, PATCH))
        run()
        return line.spent(clock.seconds)
