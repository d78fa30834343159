"""Backbones without weights: what their layers show on torch's meta device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from terratorch_simpler.backbones.families.family import first_convolution

Shape = tuple[int, ...]


class _WeightsOnMeta(TorchFunctionMode):
    """Makes weights on the meta device, and leaves what a backbone computes with on the CPU."""

    factories = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
    # Half of the time would go into giving values to weights that have none.
    values = ("normal_", "uniform_", "clamp_", "erfinv_", "mul_", "add_", "fill_", "zero_")

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in self.factories and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        elif getattr(function, "__name__", "") in self.values and args and args[0].is_meta:
            return args[0]
        return function(*args, **kwargs)


def without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a module on torch's meta device: shapes and names, but no weights.

    Some read numbers back from tensors while they are built, which a meta tensor does not allow,
    and some mix such tensors with weights, which the CPU does not allow.
    """
    try:
        with _WeightsOnMeta():
            return build().to("meta")
    except RuntimeError:
        with torch.device("meta"):
            return build()


def _shapes(value: object) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return [_shapes(item) for item in value] if isinstance(value, list | tuple) else None


@dataclass(frozen=True)
class Trace:
    """A pass of a backbone without weights or memory.

    Attributes:
        calls: A pair of shapes, in and out, for each call of a block, in order.
        returned: What the backbone returned.
    """

    calls: list[tuple[Any, Any]]
    returned: Any


def trace(module: nn.Module, blocks: list[nn.Module], image: Shape) -> Trace | None:
    """Run a backbone on torch's meta device.

    Args:
        module: A backbone that takes one image.
        blocks: The blocks whose shapes are wanted.
        image: Shape of the image without the batch.

    Returns:
        What was seen; None if it cannot be run like this.
    """
    seen: list[tuple[Any, Any]] = []
    handles = [
        block.register_forward_hook(
            lambda _block, inputs, output: seen.append((_shapes(inputs[:1])[0], _shapes(output)))
        )
        for block in blocks
    ]
    state = {
        name: value.detach().to("meta")
        for name, value in [*module.named_parameters(), *module.named_buffers()]
    }
    try:
        with torch.no_grad(), torch.device("meta"):
            returned = functional_call(module, state, (torch.empty(2, *image),))
    except Exception:
        # Whatever a backbone raises here says that the guess of its input was wrong.
        return None
    finally:
        for handle in handles:
            handle.remove()
    return Trace(seen, returned)


def image_shape(module: nn.Module) -> Shape | None:
    """Shape of the images that a backbone is made for, as far as its layers tell."""
    bands, size = first_convolution(module), image_size(module)
    return (bands, size, size) if bands is not None else None


def image_size(module: nn.Module) -> int:
    """Side in pixels of the images that a backbone is made for, or 224 if it does not say."""
    for layer in module.modules():
        size = getattr(layer, "img_size", None)
        if isinstance(size, int):
            return size
        if isinstance(size, tuple | list) and size:
            return int(size[-1])
    configured = (getattr(layer, "pretrained_cfg", None) or {} for layer in module.modules())
    return next((config["input_size"][-1] for config in configured if "input_size" in config), 224)
