"""The structural rule: one list of blocks that map tokens of one width to tokens of that width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from terratorch_simpler.backbones.families.family import Arguments, Family, first_convolution
from terratorch_simpler.backbones.families.tracing import (
    Shape,
    Trace,
    image_shape,
    trace,
)
from terratorch_simpler.backbones.outputs import Form, form_of
from terratorch_simpler.results.plan import BY_STRUCTURE


def block_lists(module: nn.Module) -> dict[str, list[nn.Module]]:
    """Lists of two or more blocks of one class, by dotted name, leaving out those inside blocks."""
    found: dict[str, list[nn.Module]] = {}
    blocks: list[str] = []
    for name, layer in module.named_modules():
        if any(name.startswith(f"{outer}.") for outer in blocks):
            continue
        if isinstance(layer, nn.ModuleList | nn.Sequential) and len(layer) > 1:
            entries = list(layer)
            # A list can hold None, where some of its places need no layer.
            one_class = len({type(entry) for entry in entries}) == 1 and entries[0] is not None
            if one_class and any(True for _ in entries[0].parameters()):
                found[name] = entries
                if not _hold_backbones(entries):
                    blocks.append(name)
    return found


def _hold_backbones(entries: list[nn.Module]) -> bool:
    """Whether each entry is a backbone of its own, with a patch embedding and blocks."""
    return all(first_convolution(entry) is not None and _transformers(entry) for entry in entries)


def _transformers(module: nn.Module) -> dict[str, list[nn.Module]]:
    """Those lists whose blocks are equal transformer blocks."""
    return {
        path: blocks
        for path, blocks in block_lists(module).items()
        if len({_weights(block) for block in blocks}) == 1 and _is_transformer(blocks[0])
    }


def _token_width(block: nn.Module, shape: object) -> int | None:
    """Features of a token: the last dimension, if the block has weights for it."""
    if not isinstance(shape, tuple) or len(shape) not in (3, 4):
        return None
    sizes = {size for weight in block.parameters() for size in weight.shape}
    return shape[-1] if shape[-1] in sizes else None


def check_tokens(module: nn.Module, path: str, image: Shape) -> Trace | None:
    """Refuse a list whose blocks do not map tokens of one width to as many of that width.

    Returns:
        The pass in which that was seen; None if there could be none.

    Raises:
        ValueError: With what they do.
    """
    blocks = list(module.get_submodule(path).children())
    traced = trace(module, blocks, image)
    if traced is None:
        return None
    seen = traced.calls
    if len(seen) != len(blocks):
        raise ValueError(f"its {len(blocks)} blocks of {path} are not each run once")
    for block, (before, after) in zip(blocks, seen, strict=True):
        if _token_width(block, before) is None:
            raise ValueError(
                f"the blocks of {path} are no transformer blocks: they read {before}, not tokens"
            )
        if not seen[0][0] == before == after:
            raise ValueError(f"the blocks of {path} turn {seen[0][0]} into {after}")
    return traced


def find_blocks(module: nn.Module) -> str:
    """Dotted name of the one list of transformer blocks of any module.

    Raises:
        ValueError: If there is none, or more than one.
    """
    lists = _transformers(module)
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
    _check_forward(module, path)
    depth = len(list(module.get_submodule(path).children()))
    channels = getattr(module, "out_channels", None)
    if isinstance(channels, list | tuple) and _outputs(module) is None and len(channels) != depth:
        raise ValueError(
            f"it has {len(channels)} outputs for {depth} blocks, and no out_indices to say which "
            "block each comes from"
        )
    image = image_shape(module)
    traced = check_tokens(module, path, image) if image is not None else None
    if traced is not None:
        chosen = _outputs(module)
        form_of(traced.returned, depth if chosen is None else len(chosen))


def _check_forward(module: nn.Module, path: str) -> None:
    """Refuse blocks inside a module that would go on to run as it was when it was built.

    TerraTorch binds ``forward`` of Prithvi's and timm's backbones to the full module.

    Raises:
        ValueError: With the module that does.
    """
    names = path.split(".")[:-1]
    for end in range(len(names) + 1):
        holder = ".".join(names[:end])
        if "forward" in vars(module.get_submodule(holder)):
            raise ValueError(
                f"forward of {holder or 'this module'}, which holds {path}, is bound to all of its "
                "blocks: prune that backbone alone, or build it with simpler_ before its name"
            )


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

    def form(self, module: nn.Module, outputs: int) -> Form | None:
        """What it returns when it is run without weights, or what its ``out_channels`` say."""
        image = image_shape(module)
        traced = trace(module, [], image) if image is not None else None
        if traced is not None:
            return form_of(traced.returned, outputs)
        return "by block" if isinstance(getattr(module, "out_channels", None), list) else None
