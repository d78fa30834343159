"""The structural rule: one list of blocks that map tokens of one width to tokens of that width."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from terratorch_simpler.backbones.families.family import Arguments, Family, first_convolution
from terratorch_simpler.results.plan import BY_STRUCTURE

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


def block_lists(module: nn.Module) -> dict[str, list[nn.Module]]:
    """Lists of two or more blocks of one class, by dotted name, leaving out those inside others."""
    found: dict[str, list[nn.Module]] = {}
    for name, layer in module.named_modules():
        if any(name.startswith(f"{outer}.") for outer in found):
            continue
        if isinstance(layer, nn.ModuleList | nn.Sequential) and len(layer) > 1:
            blocks = list(layer)
            one_class = len({type(block) for block in blocks}) == 1
            if one_class and any(True for _ in blocks[0].parameters()):
                found[name] = blocks
    return found


def _shapes(value: object) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return [_shapes(item) for item in value] if isinstance(value, list | tuple) else None


def trace(module: nn.Module, blocks: list[nn.Module], image: Shape) -> list[tuple[Any, Any]] | None:
    """Shapes that go into and come out of each block, from a pass without weights or memory.

    Args:
        module: A backbone that takes one image.
        blocks: The blocks whose shapes are wanted.
        image: Shape of the image without the batch.

    Returns:
        A pair of shapes for each call of a block, in order; None if it cannot be run like this.
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
            functional_call(module, state, (torch.empty(2, *image),))
    except Exception:
        # Whatever a backbone raises here says that the guess of its input was wrong.
        return None
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _token_width(block: nn.Module, shape: object) -> int | None:
    """Features of a token: the last dimension, if the block has weights for it."""
    if not isinstance(shape, tuple) or len(shape) not in (3, 4):
        return None
    sizes = {size for weight in block.parameters() for size in weight.shape}
    return shape[-1] if shape[-1] in sizes else None


def check_tokens(module: nn.Module, path: str, image: Shape) -> None:
    """Refuse a list whose blocks do not map tokens of one width to as many of that width.

    Raises:
        ValueError: With what they do.
    """
    blocks = list(module.get_submodule(path).children())
    seen = trace(module, blocks, image)
    if seen is None:
        return
    if len(seen) != len(blocks):
        raise ValueError(f"its {len(blocks)} blocks of {path} are not each run once")
    for block, (before, after) in zip(blocks, seen, strict=True):
        if _token_width(block, before) is None:
            raise ValueError(
                f"the blocks of {path} are no transformer blocks: they read {before}, not tokens"
            )
        if not seen[0][0] == before == after:
            raise ValueError(f"the blocks of {path} turn {seen[0][0]} into {after}")


def find_blocks(module: nn.Module) -> str:
    """Dotted name of the one list of transformer blocks of any module.

    Raises:
        ValueError: If there is none, or more than one.
    """
    lists = {
        path: blocks
        for path, blocks in block_lists(module).items()
        if len({_weights(block) for block in blocks}) == 1 and _is_transformer(blocks[0])
    }
    if not lists:
        raise ValueError(
            "it has no list of equal transformer blocks, as convolutional networks have none; "
            "if one of its lists is to be cut, name it with blocks="
        )
    if len(lists) > 1:
        sizes = ", ".join(f"{path} ({len(blocks)})" for path, blocks in lists.items())
        if len({_weights(blocks[0]) for blocks in lists.values()}) == 1:
            raise ValueError(f"it has several lists of blocks, {sizes}: name one with blocks=")
        raise ValueError(
            f"its lists of blocks differ in width, as those of hierarchical networks do: {sizes}; "
            "if one of them alone is to be cut, name it with blocks="
        )
    return next(iter(lists))


def _weights(block: nn.Module) -> tuple[tuple[str, Shape], ...]:
    return tuple((name, tuple(weight.shape)) for name, weight in block.named_parameters())


def _is_transformer(block: nn.Module) -> bool:
    """Whether it only has matrices and vectors: convolutions have more dimensions."""
    ranks = {weight.ndim for weight in block.parameters()}
    return 2 in ranks and max(ranks) <= 3


def check_named(module: nn.Module, path: str) -> None:
    """Check the dotted name of a list of blocks that a user gave.

    Raises:
        ValueError: If there is no such thing, or it is no list of at least two blocks.
    """
    try:
        layer = module.get_submodule(path)
    except AttributeError:
        known = ", ".join(block_lists(module)) or "none"
        raise ValueError(f"it has nothing at blocks='{path}': its lists are {known}") from None
    if not isinstance(layer, nn.ModuleList | nn.Sequential) or len(layer) < 2:
        raise ValueError(
            f"blocks='{path}' is no list of blocks but a {type(layer).__name__}: its lists are "
            f"{', '.join(block_lists(module)) or 'none'}"
        )


def check_structure(module: nn.Module, path: str) -> None:
    """Refuse blocks that change the width of tokens, or outputs that cannot be told apart.

    Raises:
        ValueError: With what they do.
    """
    depth = len(list(module.get_submodule(path).children()))
    channels = getattr(module, "out_channels", None)
    if isinstance(channels, list | tuple) and _outputs(module) is None and len(channels) != depth:
        raise ValueError(
            f"it has {len(channels)} outputs for {depth} blocks, and no out_indices to say which "
            "block each comes from"
        )
    bands = first_convolution(module)
    if bands is not None:
        size = image_size(module)
        check_tokens(module, path, (bands, size, size))


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


def _outputs(module: nn.Module) -> list[int] | None:
    indices = getattr(module, "out_indices", None)
    if isinstance(indices, list | tuple):
        return [int(i) for i in indices]
    channels = getattr(module, "out_channels", None)
    return [-1] if isinstance(channels, list | tuple) and len(channels) == 1 else None


class Structure(Family[nn.Module]):
    """Any module that no other family knows, by its structure alone."""

    name = BY_STRUCTURE
    class_path = "torch.nn.modules.module.Module"
    indices = "out_indices"

    def stored(self, path: Path) -> Any:
        """Only its builder knows."""
        del path

    def read_bands(self, arguments: Arguments) -> Any:
        """Its ``bands`` or ``model_bands``."""
        return arguments.get("bands", arguments.get("model_bands"))

    def blocks(self, module: nn.Module) -> str:
        """The one list of transformer blocks."""
        path = find_blocks(module)
        check_structure(module, path)
        return path

    def special_tokens(self, module: nn.Module) -> int:
        """Its ``num_prefix_tokens``, as timm calls them, or none."""
        return int(getattr(module, "num_prefix_tokens", 0))

    def outputs(self, module: nn.Module) -> list[int] | None:
        """Its ``out_indices``; the last block where it has one output."""
        return _outputs(module)
