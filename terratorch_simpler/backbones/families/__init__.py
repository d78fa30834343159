"""Backbone families: where each keeps its blocks, patch tokens, outputs and statistics.

A new family is one entry of :data:`FAMILIES`; nothing else changes. Classes are named by their
path, so that reading the table imports neither TerraTorch nor a backbone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from terratorch_simpler.backbones.families.family import Bands, Family, Statistics
from terratorch_simpler.backbones.families.prithvi import PRITHVI
from terratorch_simpler.backbones.families.structure import (
    STRUCTURE,
    check_structure,
    named_blocks,
    without_memory,
)
from terratorch_simpler.backbones.families.terramind import TERRAMIND, TERRAMIND_TIM
from terratorch_simpler.backbones.families.timm_vit import TIMM_VIT
from terratorch_simpler.backbones.families.wrappers import DINOV3, DOFA, SSL4EO

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "FAMILIES",
    "Bands",
    "Family",
    "Statistics",
    "blocks_of",
    "family_of_name",
    "find_family",
    "without_memory",
]

FAMILIES: tuple[Family, ...] = (
    PRITHVI,
    TERRAMIND,
    TERRAMIND_TIM,
    TIMM_VIT,
    DOFA,
    SSL4EO,
    DINOV3,
    STRUCTURE,
)
"""Every supported family, first match wins."""

REFUSED = {
    "terratorch.models.backbones.terramind.tokenizer.vqvae.VQ": (
        "it is a tokenizer: its blocks are of no use without those of its decoder"
    ),
    "terratorch.models.backbones.prithvi_vit_adapter.PrithviViTAdapter": (
        "the ViT adapter reads blocks at fixed positions of the full depth: remove vit_adapter to "
        "prune"
    ),
}
"""Classes that hold a list of blocks but must not be cut, with the reason."""


def _class_paths(module: nn.Module) -> list[str]:
    return [f"{cls.__module__}.{cls.__qualname__}" for cls in type(module).__mro__]


def find_family(module: nn.Module, blocks: str | None = None, label: str | None = None) -> Family:
    """The family of a backbone, with the dotted name of its list of blocks filled in.

    Args:
        module: A full backbone, as TerraTorch's registry builds it, or any module.
        blocks: Dotted name of its list of blocks, where no rule finds the one that is meant.
        label: What to call it in messages, instead of its class.

    Raises:
        ValueError: If its depth cannot be cut, with the reason, or if it has been pruned already.
    """
    from terratorch_simpler.pruning import PrunedBackbone

    if isinstance(module, PrunedBackbone):
        raise ValueError(
            f"this {type(module).__name__} is pruned already ({len(module.kept_blocks)} of "
            f"{module.full_depth} blocks): start from the full backbone"
        )
    paths = _class_paths(module)
    family = next(family for family in FAMILIES if family.class_path in paths)
    try:
        for path, reason in REFUSED.items():
            if path in paths:
                raise ValueError(reason)
        if blocks is not None and family.blocks != blocks:
            family = replace(STRUCTURE, blocks=named_blocks(module, blocks))
            check_structure(module, blocks)
        if callable(family.blocks):
            family = replace(family, blocks=family.blocks(module))
    except ValueError as error:
        raise ValueError(
            f"the depth of {label or type(module).__name__} cannot be cut: {error}"
        ) from None
    return family


def family_of_name(source: str, name: str) -> Family | None:
    """The family that a name of a source of the registry belongs to, as far as names tell."""
    return next((family for family in FAMILIES if family.owns(source, name)), None)


def blocks_of(module: nn.Module, family: Family) -> Any:
    """The list of transformer blocks of a backbone whose family :func:`find_family` found."""
    assert isinstance(family.blocks, str)
    return module.get_submodule(family.blocks)
