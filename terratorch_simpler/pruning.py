"""Pruning: a backbone and a plan make a shallower backbone that keeps TerraTorch's contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor, nn

from terratorch_simpler.families import blocks_of, find_family
from terratorch_simpler.plan import PruningPlan, check_kept_blocks

Outputs = Literal["full_depth", "kept"]


class PrunedBackbone(nn.Module):
    """What a pruned backbone is beside its own class.

    A pruned Prithvi is a ``PrunedPrithviViT``: a ``PrithviViT`` with fewer blocks, the same
    parameter names and a real ``forward``. The final norm stays where it was, on the last output.

    Attributes:
        kept_blocks: 0-based indices of the kept blocks in the full backbone.
        full_depth: Blocks of the full backbone.
        output_blocks: For each output, the position among the kept blocks it comes from.
        out_channels: Channels of each output.
        plan: The plan that chose the blocks, or None where a number or list did.
    """

    kept_blocks: list[int]
    full_depth: int
    output_blocks: list[int]
    out_channels: list[int]
    plan: PruningPlan | None
    _features_name: str

    def forward(self, *args: Any, **kwargs: Any) -> list[Tensor]:
        """Run the kept blocks; one tensor an output, of the shape the full backbone returns."""
        features = getattr(self, self._features_name)(*args, **kwargs)
        return [features[block] for block in self.output_blocks]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Pickle by the class that was pruned: the pruned class is made when it is needed."""
        return _rebuild, (type(self).__mro__[2],), self.__dict__


_CLASSES: dict[type[nn.Module], type[PrunedBackbone]] = {}


def _pruned_class(base: type[nn.Module]) -> type[PrunedBackbone]:
    """The one pruned class of a backbone's class."""
    if base not in _CLASSES:
        namespace = {"__module__": __name__, "__doc__": f"A pruned {base.__name__}."}
        _CLASSES[base] = type(f"Pruned{base.__name__}", (PrunedBackbone, base), namespace)
    return _CLASSES[base]


def _rebuild(base: type[nn.Module]) -> PrunedBackbone:
    cls = _pruned_class(base)
    return cls.__new__(cls)


def output_positions(
    kept: int, full_depth: int, outputs: Outputs, chosen: list[int] | None
) -> list[int]:
    """Which kept block each output comes from.

    With ``full_depth``, entry i of the full backbone's outputs is the output of kept block
    ``ceil((i + 1) * kept / full_depth)`` (1-based), so that necks which name layers of the full
    backbone keep their meaning. With ``kept`` there is one output for each kept block.

    Args:
        kept: K, the number of kept blocks.
        full_depth: L, the number of blocks of the full backbone.
        outputs: ``full_depth`` or ``kept``.
        chosen: The ``out_indices`` of the backbone, into the list above; None for all.

    Returns:
        0-based positions among the kept blocks.

    Raises:
        ValueError: If ``outputs`` is unknown or an index does not exist.
    """
    if outputs not in get_args(Outputs):
        raise ValueError(f"outputs must be one of {', '.join(get_args(Outputs))}, got {outputs!r}")
    entries = list(range(kept))
    if outputs == "full_depth":
        entries = [-(-(i + 1) * kept // full_depth) - 1 for i in range(full_depth)]
    if chosen is None:
        return entries
    wrong = [i for i in chosen if not -len(entries) <= i < len(entries)]
    if wrong:
        raise ValueError(
            f"out_indices {wrong} do not exist: with outputs '{outputs}' there are {len(entries)} "
            f"(0..{len(entries) - 1})"
        )
    return [entries[i] for i in chosen]


def prune_module(
    module: nn.Module,
    kept_blocks: list[int],
    outputs: Outputs = "full_depth",
    plan: PruningPlan | None = None,
) -> PrunedBackbone:
    """Cut a backbone to some of its blocks.

    The result shares the kept weights with ``module``, which stays as it is; the memory of the
    removed blocks is free as soon as ``module`` is.

    Args:
        module: The full backbone.
        kept_blocks: Sorted 0-based indices, as :func:`check_kept_blocks` returns them.
        outputs: ``full_depth`` or ``kept``; see :func:`output_positions`.
        plan: The plan that chose the blocks, to be carried along.

    Raises:
        ValueError: If the backbone is of no supported family, or as :func:`output_positions`.
    """
    family = find_family(module)
    full_depth = len(blocks_of(module, family))
    positions = output_positions(len(kept_blocks), full_depth, outputs, family.outputs(module))
    pruned = _shallow_copy(module)
    for name in (family.blocks, *family.per_block):
        entries = getattr(module, name, None)
        if entries is not None:
            # An empty list of the same type: ModuleList and ParameterList alike.
            setattr(pruned, name, type(entries)([entries[i] for i in kept_blocks]))
    pruned.kept_blocks = kept_blocks
    pruned.full_depth = full_depth
    pruned.output_blocks = positions
    pruned.out_channels = [family.channels(module)] * len(positions)
    pruned.plan = plan
    pruned._features_name = family.features
    _forget_full_depth(pruned)
    return pruned


def _shallow_copy(module: nn.Module) -> PrunedBackbone:
    """A copy of the module itself, as its pruned class, that shares all its children."""
    pruned = _rebuild(type(module))
    pruned.__dict__.update(
        {
            name: value.copy() if isinstance(value, dict) else value
            for name, value in module.__dict__.items()
        }
    )
    return pruned


def _forget_full_depth(pruned: PrunedBackbone) -> None:
    """Drop what the registry bound to the full backbone.

    TerraTorch replaces ``forward`` of a Prithvi by a closure over the model it built.
    """
    pruned.__dict__.pop("forward", None)
    if "out_indices" in pruned.__dict__:
        pruned.__dict__["out_indices"] = list(range(len(pruned.output_blocks)))


def prune(
    backbone: str | nn.Module,
    plan: PruningPlan | str | Path | int | list[int],
    *,
    outputs: Outputs = "full_depth",
    **arguments: Any,
) -> PrunedBackbone:
    """Cut a backbone to the depth of a plan.

    Args:
        backbone: A name of TerraTorch's backbone registry, or a backbone. A module given here keeps
            its blocks and shares the kept weights with the result.
        plan: A plan, the path of one, the number of first blocks to keep, or a sorted list of
            0-based block indices.
        outputs: ``full_depth`` (as many outputs as the full backbone, the default) or ``kept``.
        **arguments: Arguments of the registry's builder, such as ``pretrained=True``.

    Returns:
        The pruned backbone; see :class:`PrunedBackbone`.

    Raises:
        ValueError: If the backbone cannot be cut, the plan was made for another one, or the blocks
            do not exist.
        FileNotFoundError: If the plan or a checkpoint does not exist.
    """
    from terratorch_simpler.backbones import load_backbone

    if isinstance(plan, str | Path):
        plan = PruningPlan.load(plan)
    full = load_backbone(backbone, **arguments)
    if isinstance(plan, PruningPlan):
        full.check_plan(plan)
        pruned = prune_module(full.module, plan.kept_blocks, outputs, plan)
    else:
        pruned = prune_module(full.module, check_kept_blocks(plan, full.depth), outputs)
    if isinstance(backbone, str):
        full.release()
    return pruned
