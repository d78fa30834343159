"""Pruning: a backbone and a plan make a shallower backbone that keeps TerraTorch's contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from terratorch_simpler.backbones.backbone import Backbone, load_backbone
from terratorch_simpler.backbones.patches import (
    PatchEmbedding,
    check_choice,
    convolutions,
    product_class,
    why_no_product,
)
from terratorch_simpler.backbones.pruned import PrunedBackbone, empty_pruned
from terratorch_simpler.results.blocks import check_kept_blocks
from terratorch_simpler.results.plan import BY_STRUCTURE, PruningPlan

Outputs = Literal["full_depth", "kept"]


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


def prune_backbone(
    backbone: Backbone,
    kept_blocks: list[int],
    outputs: Outputs = "full_depth",
    plan: PruningPlan | None = None,
    patch_embedding: PatchEmbedding = "auto",
) -> PrunedBackbone:
    """Prune a backbone to some of its blocks.

    The result shares the kept weights with the full backbone, which stays as it is; the memory of
    the removed blocks is free as soon as its module is.

    Args:
        backbone: The full backbone.
        kept_blocks: Sorted 0-based indices, as :func:`check_kept_blocks` returns them.
        outputs: ``full_depth`` or ``kept``; see :func:`output_positions`.
        plan: The plan that chose the blocks, to be carried along.
        patch_embedding: How patches are embedded: ``conv`` as in the full backbone, ``matmul`` as
            one matrix product, ``auto`` as the product where the convolution is known to be slow.

    Raises:
        ValueError: If only its first blocks can be kept, its outputs cannot be told apart, its
            patch embedding is no such product, or as :func:`output_positions`.
    """
    module, family = backbone.module, backbone.family
    kept, full_depth = len(kept_blocks), backbone.depth
    only = family.first_only(module)
    if only is not None and kept_blocks != list(range(kept)):
        raise ValueError(
            f"{type(module).__name__} can only keep its first blocks, not {kept_blocks}: {only}"
        )
    chosen = family.outputs(module)
    form = family.form(module, full_depth if chosen is None else len(chosen))
    if outputs == "kept" and chosen in (family.default_outputs(full_depth), [*range(full_depth)]):
        # Nothing was asked for: kept means every block, whatever the full backbone returns.
        chosen = None
    positions = output_positions(kept, full_depth, outputs, chosen)
    pruned: PrunedBackbone = _copy(module, empty_pruned(type(module), type(family)))
    path, _, list_name = backbone.blocks.rpartition(".")
    holders = [pruned, *_copy_below(pruned, path)]
    for name in (list_name, *family.per_block):
        entries = getattr(holders[-1], name, None)
        if entries is not None:
            setattr(holders[-1], name, _same_list(entries, kept_blocks))
    for name in family.bound:
        pruned.__dict__.pop(name, None)
    for holder in holders:
        if family.indices is not None and hasattr(holder, family.indices):
            setattr(holder, family.indices, list(range(kept)))
    channels = getattr(module, "out_channels", None)
    pruned.__dict__ |= family.settings(module) | {
        "kept_blocks": kept_blocks,
        "full_depth": full_depth,
        "output_blocks": positions,
        "form": form,
        "plan": plan,
        # One width throughout: the families make sure of that.
        "_out_channels": [channels[-1]] * len(positions) if channels else [],
    }
    if patch_embedding != "conv":
        _multiply_patches(pruned, backbone, always=patch_embedding == "matmul")
    return pruned


def _multiply_patches(pruned: PrunedBackbone, backbone: Backbone, always: bool) -> None:
    """Put layers that multiply in the place of the convolutions that cut images into patches.

    Raises:
        ValueError: If there is none and it is ``always`` to multiply, with the reason.
    """
    family, replaced = backbone.family, False
    reasons = [] if family.embeds_otherwise is None else [family.embeds_otherwise]
    layers = [] if reasons else convolutions(backbone.module, backbone.blocks)
    for place, layer in layers:
        reason = why_no_product(layer)
        if reason is not None:
            reasons.append(f"its {place} {reason}")
            continue
        path, _, name = place.rpartition(".")
        holder = [pruned, *_copy_below(pruned, path)][-1]
        kind = product_class(layer)
        multiplying = _copy(layer, kind.__new__(kind))
        multiplying.always = always
        setattr(holder, name, multiplying)
        replaced = True
    if always and not replaced:
        why = reasons[0] if reasons else "it has no convolution outside its blocks"
        raise ValueError(
            f"the patch embedding of {backbone.label} cannot be 'matmul': {why}. Leave "
            "patch_embedding out"
        )


def with_module(model: nn.Module, place: str, module: nn.Module) -> nn.Module:
    """A copy of a model with another module at a place; it shares everything else.

    Args:
        model: The model, which stays as it is.
        place: Dotted name of the module.
        module: What takes its place.
    """
    copy: nn.Module = _copy(model, type(model).__new__(type(model)))
    above, _, name = place.rpartition(".")
    setattr([copy, *_copy_below(copy, above)][-1], name, module)
    return copy


def _copy(module: nn.Module, copy: Any) -> Any:
    """Make an empty module a copy of this one that shares all its children and weights."""
    copy.__dict__.update(
        {
            name: value.copy() if isinstance(value, dict) else value
            for name, value in module.__dict__.items()
        }
    )
    return copy


def _copy_below(module: nn.Module, path: str) -> list[nn.Module]:
    """Replace each module along a dotted path by such a copy of itself, and give them."""
    copies = []
    for name in filter(None, path.split(".")):
        child = module.get_submodule(name)
        copy: nn.Module = _copy(child, type(child).__new__(type(child)))
        setattr(module, name, copy)
        copies.append(copy)
        module = copy
    return copies


def _same_list(entries: Any, kept: list[int]) -> Any:
    """A list of the same kind, of some of its entries."""
    chosen = [entries[i] for i in kept]
    return nn.Sequential(*chosen) if isinstance(entries, nn.Sequential) else type(entries)(chosen)


def prune(
    backbone: str | nn.Module,
    plan: PruningPlan | str | Path | int | list[int],
    *,
    outputs: Outputs = "full_depth",
    blocks: str | None = None,
    patch_embedding: PatchEmbedding = "auto",
    **arguments: Any,
) -> PrunedBackbone:
    """Prune a backbone to the depth of a plan.

    Args:
        backbone: A name of TerraTorch's backbone registry, or a backbone. A module given here keeps
            its blocks and shares the kept weights with the result.
        plan: A plan, the path of one, the number of first blocks to keep, or a sorted list of
            0-based block indices.
        outputs: ``full_depth`` (as many outputs as the full backbone, the default) or ``kept``.
        blocks: Dotted name of its list of blocks, where no rule finds the one that is meant; a plan
            says it itself.
        patch_embedding: ``auto``, ``conv`` or ``matmul``: whether the convolution that cuts images
            into patches runs as one matrix product, with the same weights; see
            :func:`prune_backbone`.
        **arguments: Arguments of the registry's builder, such as ``pretrained=True``.

    Returns:
        The pruned backbone; see :class:`PrunedBackbone`.

    Raises:
        ValueError: If the backbone cannot be cut, the plan was made for another one, the blocks
            do not exist, or its patch embedding is no matrix product.
        FileNotFoundError: If the plan or a checkpoint does not exist.
    """
    check_choice(patch_embedding)
    if isinstance(plan, str | Path):
        plan = PruningPlan.load(plan)
    if isinstance(plan, PruningPlan) and plan.backbone.family == BY_STRUCTURE:
        # What a family's own rule finds need not be named.
        blocks = blocks or plan.backbone.blocks
    full = load_backbone(backbone, blocks=blocks, **arguments)
    if isinstance(plan, PruningPlan):
        full.check_plan(plan)
        pruned = prune_backbone(full, plan.kept_blocks, outputs, plan, patch_embedding)
    else:
        kept = check_kept_blocks(plan, full.depth)
        pruned = prune_backbone(full, kept, outputs, patch_embedding=patch_embedding)
    if isinstance(backbone, str):
        full.release()
    return pruned
