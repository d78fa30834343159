"""Backbone families: where each keeps its blocks, patch tokens, outputs and statistics.

A new family is one entry of :data:`FAMILIES`; nothing else changes. Classes are named by their
path, so that reading the table imports neither torch nor terratorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

Statistics = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Family:
    """How to read and cut the backbones of one family.

    Attributes:
        name: Name shown to users.
        class_path: Class of the backbones that TerraTorch's registry builds.
        owns: Whether a registry name belongs to the family.
        blocks: Attribute that holds the list of blocks.
        features: Method that returns one output per block, given the images.
        special_tokens: Tokens before the patch tokens of a block's output.
        outputs: Indices into the block outputs that the full backbone was asked to return, or None
            for all of them.
        channels: Channels of each output as TerraTorch's necks see them.
        bands: Number of bands that the backbone reads.
        patch: Side of a patch in pixels.
        width: Features of a token.
        per_block: Other attributes that hold one entry a block.
        inputs: Keys of a batch, beside the image, that the backbone takes.
        arguments: Names that the registry's builder takes; it swallows any other without a word.
        statistics: Means and standard deviations that the weights of a registry name were
            pre-trained with, for the bands given; None if the family publishes none.
        refused: Variants that cannot be cut, by class path, with the reason.
    """

    name: str
    class_path: str
    owns: Callable[[str], bool]
    blocks: str
    features: str
    special_tokens: Callable[[Any], int]
    outputs: Callable[[Any], list[int] | None]
    channels: Callable[[Any], int]
    bands: Callable[[Any], int]
    patch: Callable[[Any], int]
    width: Callable[[Any], int]
    per_block: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    arguments: Callable[[], set[str]] = set
    statistics: Callable[[str, Sequence[str]], Statistics | None] = lambda _name, _bands: None
    refused: dict[str, str] = field(default_factory=dict)


def _prithvi_arguments() -> set[str]:
    from inspect import signature

    from terratorch.models.backbones import prithvi_vit
    from terratorch.models.backbones.prithvi_mae import PrithviViT

    builders = (prithvi_vit.prithvi_eo_v2_300, prithvi_vit._create_prithvi, PrithviViT.__init__)
    known = {name for builder in builders for name in signature(builder).parameters}
    # The factory reads padding from the backbone's arguments and passes it on.
    known |= prithvi_vit.prithvi_cfgs["prithvi_eo_v2_300"].keys() | {"out_indices", "padding"}
    return known - {"self", "variant", "encoder_only", "kwargs"}


def _prithvi_statistics(name: str, bands: Sequence[str]) -> Statistics | None:
    from terratorch.models.backbones.prithvi_vit import prithvi_cfgs

    config = prithvi_cfgs.get(name)
    if config is None:
        return None
    known = [band.value for band in config["bands"]]
    unknown = [band for band in bands if band not in known]
    if unknown:
        raise ValueError(
            f"{name} publishes no statistics for {', '.join(unknown)} (it knows "
            f"{', '.join(known)}): give means and stds for your bands"
        )
    index = [known.index(band) for band in bands]
    return [config["mean"][i] for i in index], [config["std"][i] for i in index]


def _prithvi_outputs(module: Any) -> list[int] | None:
    depth = len(module.blocks)
    chosen = [int(i) for i in getattr(module, "out_indices", range(depth))]
    return None if chosen == list(range(depth)) else chosen


PRITHVI = Family(
    name="Prithvi",
    class_path="terratorch.models.backbones.prithvi_mae.PrithviViT",
    owns=lambda name: name.startswith("prithvi_eo_"),
    blocks="blocks",
    features="forward_features",
    # Deep prompts (VPT) stand between the class and the patch tokens while a block runs.
    special_tokens=lambda module: 1 + (module.vpt_n_tokens or 0 if module.vpt else 0),
    outputs=_prithvi_outputs,
    # Frames are stacked into channels when tokens become images.
    channels=lambda module: module.embed_dim * module.patch_embed.grid_size[0],
    bands=lambda module: int(module.in_chans),
    patch=lambda module: int(module.patch_embed.patch_size[-1]),
    width=lambda module: int(module.embed_dim),
    per_block=("vpt_prompt_embeddings", "vpt_dropout_layers"),
    inputs=("temporal_coords", "location_coords"),
    arguments=_prithvi_arguments,
    statistics=_prithvi_statistics,
    refused={
        "terratorch.models.backbones.prithvi_vit_adapter.PrithviViTAdapter": (
            "the ViT adapter reads blocks at fixed positions of the full depth: "
            "remove vit_adapter to prune"
        )
    },
)

FAMILIES: tuple[Family, ...] = (PRITHVI,)
"""Every supported family, first match wins."""


def _class_paths(module: nn.Module) -> list[str]:
    return [f"{cls.__module__}.{cls.__qualname__}" for cls in type(module).__mro__]


def find_family(module: nn.Module) -> Family:
    """The family of a backbone.

    Args:
        module: A full backbone, as TerraTorch's registry builds it.

    Raises:
        ValueError: If no family knows it, if it is a variant that cannot be cut, or if it has
            been pruned already.
    """
    from terratorch_simpler.pruning import PrunedBackbone

    if isinstance(module, PrunedBackbone):
        raise ValueError(
            f"this {type(module).__name__} is pruned already ({len(module.kept_blocks)} of "
            f"{module.full_depth} blocks): start from the full backbone"
        )
    paths = _class_paths(module)
    for family in FAMILIES:
        for path, reason in family.refused.items():
            if path in paths:
                raise ValueError(f"{type(module).__name__} cannot be cut: {reason}")
        if family.class_path in paths:
            return family
    raise ValueError(
        f"no family of backbones knows {paths[0]}: supported are "
        f"{', '.join(family.name for family in FAMILIES)}"
    )


def family_of_name(name: str) -> Family | None:
    """The family that a registry name belongs to, or None."""
    return next((family for family in FAMILIES if family.owns(name)), None)


def blocks_of(module: nn.Module, family: Family) -> nn.ModuleList:
    """The list of transformer blocks of a backbone."""
    blocks: nn.ModuleList = getattr(module, family.blocks)
    return blocks
