"""Measuring what a model costs at some depths, side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import nn

from terratorch_simpler.lightning import check_precision, find_precision
from terratorch_simpler.messages import one_line
from terratorch_simpler.profiling.compiling import Compiled
from terratorch_simpler.profiling.costs import (
    flops_by_depth,
    held_by,
    peak_growth,
    time_in_rounds,
    wait,
)
from terratorch_simpler.profiling.profiled import ProfiledModel
from terratorch_simpler.profiling.runs import Example, Run, inference, training_step
from terratorch_simpler.tiles.batches import modalities_of
from terratorch_simpler.tiles.progress import bar

BATCH_SIZE = 2
"""The smallest batch that every decoder can be trained on: a batch norm of one pixel needs two."""

ROUNDS = 5


@dataclass(frozen=True)
class BenchSettings:
    """How to measure.

    Attributes:
        batch_size: Images in a batch.
        rounds: Times that each depth is timed; the median counts.
        every_depth: Measure every depth, and interpolate none.
        progress: Show a progress bar.
        precision: In what to compute, in Lightning's words.
        compile: Compile the model of each depth with torch.compile.
    """

    batch_size: int = BATCH_SIZE
    rounds: int = ROUNDS
    every_depth: bool = False
    progress: bool = False
    precision: str = "32-true"
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        check_precision(self.precision)


def image_shapes(example: Example) -> str:
    """Shape of one image of a batch, by modality where there are several."""
    shapes = {
        name: " x ".join(map(str, image.shape[1:]))
        for name, image in modalities_of(example[0]).items()
    }
    return ", ".join(f"{name} {shape}".strip() for name, shape in shapes.items())


class Bench:
    """Measures inference and training steps of a model at any depth.

    One optimizer serves all depths, so that its state is there once; weights that a depth does not
    have get no gradient, and are passed over. Its learning rate is 0: weights keep their values,
    and none can grow until arithmetic slows down.
    """

    def __init__(
        self,
        profiled: ProfiledModel,
        example: Example,
        device: torch.device,
        settings: BenchSettings,
    ) -> None:
        self.profiled, self.device, self.settings = profiled, device, settings
        self.precision = find_precision(settings.precision, device)
        self.example = example
        with self.blame():
            self.example = apply_to_collection(
                example, torch.Tensor, lambda value: value.to(device)
            )
        if settings.precision == "bf16-true":
            self.example = self.precision.convert_input(self.example)
        weights = [weight for weight in profiled.whole.parameters() if weight.requires_grad]
        if not weights:
            raise ValueError(f"no weight of {profiled.label} requires a gradient: nothing to train")
        self.optimizer = torch.optim.AdamW(weights, lr=0.0)
        self.memory: dict[int, dict[str, float]] = {}
        self.ranges: dict[int, dict[str, float]] = {}
        self.compiled = Compiled(profiled) if settings.compile else None

    def flops(self) -> list[int]:
        """FLOPs of inference at every depth."""
        backbone = self.profiled.backbone
        module = self.profiled.pruned(backbone.depth)
        with self.blame():
            return flops_by_depth(self.eager("inference", module), backbone.called_blocks)

    def measure(self, depths: list[int]) -> dict[int, dict[str, float]]:
        """Seconds and bytes of inference and of a training step at some depths.

        The fastest and the slowest rounds are in ``ranges`` afterwards: what is interpolated rests
        on the medians alone.
        """
        values: dict[int, dict[str, float]] = {}
        turns = len(depths) * 2 * self.settings.rounds
        total = len(depths) + turns
        with self.blame(), bar("Profiling", total, "runs", self.settings.progress) as runs:
            for depth in depths:
                if depth not in self.memory:
                    self.memory[depth] = self._peaks(depth)
                values[depth] = dict(self.memory[depth])
                runs.update()
            for name in ("inference", "step"):

                def prepare(depth: int, name: str = name) -> Run:
                    runs.update()
                    return self._turn(name, depth)

                seconds = time_in_rounds(prepare, depths, self.settings.rounds, self.device)
                for depth, times in seconds.items():
                    values[depth][f"{name}_seconds"] = median(times)
                    ends = {f"{name}_fastest": min(times), f"{name}_slowest": max(times)}
                    self.ranges[depth] = self.ranges.get(depth, {}) | ends
        return values

    def _turn(self, name: str, depth: int) -> Run:
        if self.compiled is not None:
            return self.eager(name, self.compiled.module(depth))
        return self.eager(name, self.profiled.pruned(depth))

    def eager(
        self, name: str, module: nn.Module, reached: Callable[[str], None] | None = None
    ) -> Run:
        """Inference or a training step of a model, to be run.

        Args:
            name: ``inference`` or ``step``.
            module: The model.
            reached: As :func:`~terratorch_simpler.profiling.runs.training_step` takes it.
        """
        if name == "inference":
            return inference(module, self.example, self.precision)
        return training_step(module, self.example, self.optimizer, self.precision, reached)

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        wait(self.device)

    def _peaks(self, depth: int) -> dict[str, float]:
        """Peak memory, where the device tells."""
        peaks: dict[str, float] = {}
        for name, optimizer in (("inference", None), ("step", self.optimizer)):
            # The first run warms up, and gives the optimizer its state.
            first = self._turn(name, depth)
            if self.compiled is not None:
                self.compiled.start(depth, first, self.wait)
            else:
                first()
            run = self._turn(name, depth)
            grown = peak_growth(run, self.device)
            if grown is not None:
                held = held_by(self.profiled.pruned(depth), self.example, optimizer)
                peaks[f"{name}_bytes"] = held + grown
        return peaks

    @contextlib.contextmanager
    def blame(self) -> Iterator[None]:
        """Turn what a model raises into one message: it is about the batch."""
        batch = f"{self.settings.batch_size} images of {image_shapes(self.example)}"
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"{self.profiled.label} does not fit into the memory of {self.device} with "
                f"{batch}: give a smaller batch_size or size"
            ) from error
        except Exception as error:
            raise ValueError(
                f"{self.profiled.label} does not run with {batch} on {self.device}: "
                f"{one_line(error)}"
            ) from error
