"""What a backbone returns: one output a block, those and more beside them, or something whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

Form = Literal["by block", "by block and more", "whole"]
"""A list or tuple with one output a block; a tuple that begins with one, such as
``(features, extra)``; or anything else, which is handed on as it is."""


def form_of(returned: object, outputs: int) -> Form:
    """What a full backbone returns, from one example of it.

    Args:
        returned: What it returned for a batch.
        outputs: How many outputs it has: its ``out_indices``, or one for each block.

    Raises:
        ValueError: If it is a list of another number of outputs.
    """
    if _is_by_block(returned, outputs):
        return "by block"
    if isinstance(returned, tuple) and returned and _is_by_block(returned[0], outputs):
        return "by block and more"
    if isinstance(returned, list) and len(returned) > 1:
        raise ValueError(
            f"it returns {described(returned)} where {outputs} outputs are expected: which block "
            "each comes from cannot be told"
        )
    return "whole"


def form_of_pruned(returned: object, outputs: int) -> Form:
    """The same of a pruned backbone whose full one could not be tried.

    Raises:
        ValueError: If a tuple can as well be an output and what belongs to it.
    """
    form = form_of(returned, outputs)
    if form == "by block" and isinstance(returned, tuple):
        raise ValueError(
            f"the pruned backbone returns {described(returned)}, which can be the outputs of its "
            f"{outputs} blocks, or one output and more beside it: give the backbone out_channels, "
            "with an entry for each output"
        )
    return form


def choose(returned: Any, form: Form, blocks: int, chosen: Sequence[int]) -> Any:
    """The outputs asked for, in the place where the full backbone has its own.

    Args:
        returned: What the kept blocks gave.
        form: What the full backbone returns.
        blocks: Number of kept blocks.
        chosen: For each output, the position among the kept blocks that it comes from.

    Raises:
        ValueError: If there is another number of outputs than blocks.
    """
    if form == "whole":
        return returned
    if form == "by block and more":
        parts = choose(returned[0], "by block", blocks, chosen), *returned[1:]
        return type(returned)(*parts) if hasattr(returned, "_fields") else parts
    # A pair of types and not their union, which torch 2.8 and older cannot compile.
    if not isinstance(returned, (list, tuple)):
        return returned
    if len(returned) != blocks:
        if len(returned) == len(chosen) == 1:
            return returned
        raise ValueError(
            f"the pruned backbone returns {described(returned)} for its {blocks} blocks: which "
            "block each comes from cannot be told"
        )
    outputs = [returned[block] for block in chosen]
    return tuple(outputs) if isinstance(returned, tuple) else outputs


def described(value: object) -> str:
    """What a backbone returned, in words: shapes of tensors, and what holds them."""
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dict of {', '.join(map(str, value))}"
    if not isinstance(value, list | tuple):
        return type(value).__name__
    parts = [described(item) for item in value]
    same = len(set(parts)) == 1 and len(parts) > 1
    inside = f"{len(parts)} times {parts[0]}" if same else ", ".join(parts)
    return f"a {type(value).__name__} ({inside})"


def _is_by_block(value: object, outputs: int) -> bool:
    """Whether it is a list or tuple of as many things of one kind and shape."""
    if not isinstance(value, list | tuple) or len(value) != outputs:
        return False
    return len({described(item) for item in value}) == 1
