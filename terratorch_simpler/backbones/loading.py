"""Whether TerraTorch really loaded a backbone's weights, which it only logs where it did not.

What a file gives is not worked out from the names in it, which each builder changes in its own way:
it is seen while the backbone is built. Names only say why weights are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from terratorch_simpler.backbones.checkpoints import (
    Checkpoint,
    find_checkpoint,
    stored_names,
)
from terratorch_simpler.backbones.families import Family
from terratorch_simpler.results.plan import BY_STRUCTURE


class Loading(TorchFunctionMode):
    """Sees which weights are copied from elsewhere while a backbone is built.

    TerraTorch's builders load weights like that, and give new ones no values like that.
    """

    def __init__(self) -> None:
        super().__init__()
        # Kept, so that no other weight takes the place of one in memory.
        self._copied: list[Tensor] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(function, "__name__", "") == "copy_":
            self._copied.append(args[0])
        return function(*args, **(kwargs or {}))

    def missing(self, blocks: nn.Module) -> list[str]:
        """Names of those weights of some blocks, just built, that nothing was copied to."""
        places = {weight.data_ptr() for weight in self._copied}
        weights = blocks.named_parameters()
        return [name for name, weight in weights if weight.data_ptr() not in places]


def check_loaded(
    loading: Loading,
    module: nn.Module,
    family: Family[Any],
    blocks: str,
    name: str,
    arguments: Mapping[str, Any],
) -> None:
    """Refuse a backbone that has not got the pre-trained weights of its blocks.

    Args:
        loading: What was seen while it was built.
        module: The backbone.
        family: Its family.
        blocks: Dotted name of its list of blocks.
        name: Its registry name.
        arguments: What it was built with, pre-trained weights among it.

    Raises:
        ValueError: With the first of the weights that are missing, and why.
    """
    block_list = module.get_submodule(blocks)
    missing = loading.missing(block_list)
    total = len(list(block_list.parameters()))
    if not missing or (family.name == BY_STRUCTURE and len(missing) == total):
        # A builder that nobody here knows can also put loaded weights in the place of its own.
        return
    # A wrapper of TerraTorch adds a level of names that a file of weights does not have.
    first = f"{blocks.rpartition('.')[2]}.{missing[0]}"
    count = f"{len(missing)} of {total} block weights"
    checkpoint = find_checkpoint(family, arguments)
    if checkpoint is None:
        raise ValueError(
            f"TerraTorch loaded no pre-trained weights for {count} of {name}, the first is "
            f"{first}: give a file of them with {' or '.join(family.checkpoints)}, or leave "
            "pretrained out"
        )
    raise ValueError(
        f"the checkpoint {checkpoint.file} does not hold {name} as TerraTorch reads it: {count} "
        f"are missing, the first is {first}{_why_missing(checkpoint, family, first)}"
    )


def _why_missing(checkpoint: Checkpoint, family: Family[Any], first: str) -> str:
    """What the names in a file tell of a weight that was not loaded from it."""
    names = stored_names(checkpoint, family)
    adapter = next((name for name in names if "lora_" in name), None)
    if adapter is not None:
        return f"; it holds layers of LoRA beside the weights ({adapter}): merge them first"
    other = next((name for name in names if name.endswith(f".{first}")), None)
    if other is not None:
        return f"; there it is {other}: take '{other.removesuffix(first)}' off the names"
    return ""
