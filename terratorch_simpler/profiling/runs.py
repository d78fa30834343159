"""What is measured: a forward pass without gradients, and a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

import torch
from lightning.fabric.plugins.precision import Precision
from torch import Tensor, nn
from torch.optim import Optimizer

Example = tuple[Any, dict[str, Any]]
"""One batch as a model takes it: the image, or images by modality, and its other inputs."""

Run = Callable[[], object]

FULL = Precision()
"""Everything in the type that it is stored in."""


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors in nested dicts, lists and tuples, and in what a model of TerraTorch gives."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif is_dataclass(value):
        yield from tensors_in(vars(value))


def inference(module: nn.Module, example: Example, precision: Precision = FULL) -> Run:
    """A forward pass without gradients, to be run. Sets the module to evaluation."""
    module.eval()

    def run() -> None:
        with torch.inference_mode(), precision.forward_context():
            forward(module, example)

    return run


def training_step(
    module: nn.Module,
    example: Example,
    optimizer: Optimizer,
    precision: Precision = FULL,
    reached: Callable[[str], None] | None = None,
) -> Run:
    """Forward, backward and update, to be run. Sets the module to training.

    The loss is the mean square of the output (of the last one where there are several): what it
    costs does not depend on the depth. No gradient is left behind.

    Args:
        module: What is trained.
        example: The batch.
        optimizer: Of its weights.
        precision: In what to compute.
        reached: Called with ``backward`` and ``update`` before each begins.
    """
    module.train()

    def run() -> None:
        with precision.forward_context():
            loss = _mean_square(forward(module, example))
        if reached is not None:
            reached("backward")
        precision.backward(loss, None)
        if reached is not None:
            reached("update")
        precision.optimizer_step(optimizer)
        optimizer.zero_grad(set_to_none=True)

    return run


def forward(module: nn.Module, example: Example) -> Any:
    """What a model gives for a batch."""
    image, inputs = example
    # TiM writes into the dict that it is given.
    return module(dict(image) if isinstance(image, Mapping) else image, **inputs)


def _mean_square(output: object) -> Tensor:
    if isinstance(output, list | tuple):
        output = output[-1]
    return torch.stack([value.square().mean() for value in tensors_in(output)]).sum()
