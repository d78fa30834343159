"""Backbone families: where each keeps its blocks, patch tokens, outputs and statistics.

A new family is one file with a subclass of :class:`Family`, and its entry in :data:`FAMILIES`.
Classes of backbones are named by their path, so that reading :data:`FAMILIES` imports neither
TerraTorch nor a backbone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from terratorch_simpler.backbones.families.clay import Clay
from terratorch_simpler.backbones.families.family import Bands, Family, Images, Statistics
from terratorch_simpler.backbones.families.prithvi import Prithvi
from terratorch_simpler.backbones.families.structure import (
    Structure,
    check_named,
    check_structure,
)
from terratorch_simpler.backbones.families.terramind import TerraMind, TerraMindTiM
from terratorch_simpler.backbones.families.timm_vit import TimmViT
from terratorch_simpler.backbones.families.wrappers import DinoV3, Dofa, Ssl4eo
from terratorch_simpler.backbones.pruned import PrunedBackbone

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "FAMILIES",
    "STRUCTURE",
    "Bands",
    "Family",
    "Images",
    "Statistics",
    "class_paths",
    "family_of_name",
    "find_family",
    "is_known",
]

STRUCTURE = Structure()
FAMILIES: tuple[Family[Any], ...] = (
    Prithvi(),
    TerraMind(),
    TerraMindTiM(),
    Clay(),
    TimmViT(),
    Dofa(),
    Ssl4eo(),
    DinoV3(),
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
"""Classes that hold a list of blocks but must not be pruned, with the reason."""


def find_family(
    module: nn.Module, blocks: str | None = None, label: str | None = None
) -> tuple[Family[Any], str]:
    """The family of a backbone, and the dotted name of its list of blocks.

    Args:
        module: A full backbone, as TerraTorch's registry builds it, or any module.
        blocks: Dotted name of its list of blocks, where no rule finds the one that is meant.
        label: What to call it in messages, instead of its class.

    Raises:
        ValueError: If its depth cannot be pruned, with the reason, or if it has been already.
    """
    if isinstance(module, PrunedBackbone):
        raise ValueError(
            f"this {type(module).__name__} is pruned already ({len(module.kept_blocks)} of "
            f"{module.full_depth} blocks): start from the full backbone"
        )
    family = next(family for family in FAMILIES if family.knows(module))
    try:
        for path, reason in REFUSED.items():
            if path in class_paths(module):
                raise ValueError(reason)
        if blocks is None:
            if family is STRUCTURE:
                _check_single(module)
            return family, family.blocks(module)
        if _finds(family, module, blocks):
            return family, blocks
        check_named(module, blocks)
        check_structure(module, blocks)
    except ValueError as error:
        raise ValueError(
            f"the depth of {label or type(module).__name__} cannot be cut: {error}"
        ) from None
    return STRUCTURE, blocks


def _check_single(module: nn.Module) -> None:
    """Refuse a module that is made of several backbones.

    Raises:
        ValueError: With their names in it.
    """
    inside = [name for name, part in module.named_modules() if is_known(part)]
    if len(inside) > 1:
        raise ValueError(
            f"it is made of several backbones ({', '.join(inside)}): put simpler_ before the names "
            "that it builds them by, each with its keep_blocks"
        )


def _finds(family: Family[Any], module: nn.Module, blocks: str) -> bool:
    """Whether a family's own rule finds the blocks that were named."""
    if family is STRUCTURE:
        return False
    try:
        return family.blocks(module) == blocks
    except ValueError:
        return False


def is_known(module: nn.Module) -> bool:
    """Whether a module is of a class that a family other than the structural rule knows."""
    return any(family.knows(module) for family in FAMILIES if family is not STRUCTURE)


def family_of_name(source: str, name: str) -> Family[Any] | None:
    """The family that a name of a source of the registry belongs to, as far as names tell."""
    return next((family for family in FAMILIES if family.owns(source, name)), None)


def class_paths(module: nn.Module) -> list[str]:
    """Dotted paths of a module's class and of those that it inherits from."""
    return [f"{cls.__module__}.{cls.__qualname__}" for cls in type(module).__mro__]
