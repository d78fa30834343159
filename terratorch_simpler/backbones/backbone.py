"""Full backbones: built by name or given, with what is known of them."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from terratorch_simpler.backbones.build import (
    build_full,
    canonical_name,
    check_name,
    name_family,
    sketch,
)
from terratorch_simpler.backbones.checkpoints import (
    check_readable,
    find_checkpoint,
    reads_weights,
)
from terratorch_simpler.backbones.families import STRUCTURE, Family, Statistics, find_family
from terratorch_simpler.backbones.loading import Loading, check_loaded
from terratorch_simpler.backbones.weights import fingerprint
from terratorch_simpler.bands import band_names
from terratorch_simpler.results.plan import PruningPlan

logger = logging.getLogger(__name__)

Found = tuple[Family[Any], str]
"""A backbone's family, and the dotted name of its list of blocks."""


@dataclass(frozen=True)
class Backbone:
    """A full backbone and what is known of it.

    Attributes:
        module: The backbone.
        family: Its family.
        blocks: Dotted name of its list of blocks.
        name: Its registry name; None for a module given directly.
        arguments: What the registry built it with.
        pretrained: Whether pre-trained weights were loaded; None if unknown.
        by_frame: Whether TerraTorch's temporal wrapper gives it the frames of a tile one by one.
    """

    module: nn.Module
    family: Family[Any]
    blocks: str
    name: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    pretrained: bool | None = None
    by_frame: bool = False

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.block_list)

    @property
    def block_list(self) -> Any:
        """Its transformer blocks in order, as the ``ModuleList`` or ``Sequential`` that it has."""
        return self.module.get_submodule(self.blocks)

    @property
    def called_blocks(self) -> list[Sequence[nn.Module]]:
        """The modules that are run of each block, in order."""
        return [self.family.called(block) for block in self.block_list]

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return count_parameters(self.module)

    @property
    def label(self) -> str:
        """What to call it: the registry name, or the class."""
        return self.name or type(self.module).__name__

    @property
    def bands(self) -> list[str] | None:
        """Names of the bands that it reads, if its arguments say so."""
        return band_names(self.family.read_bands(self.arguments))

    def statistics(self, bands: list[str]) -> Statistics | None:
        """Means and standard deviations its weights were pre-trained with, if published."""
        return self.family.statistics(self.name, self.arguments, bands) if self.name else None

    def fingerprint(self) -> str:
        """SHA-256 over the names and shapes of its blocks' weights, and sums of their bits."""
        return fingerprint(self.block_list)

    def release(self) -> None:
        """Let the memory of a module that was built here go as soon as nothing holds it.

        TerraTorch can bind ``forward`` to a closure over the module: a cycle that would keep it
        until the next garbage collection.
        """
        for name in self.family.bound:
            self.module.__dict__.pop(name, None)

    def check_plan(self, plan: PruningPlan) -> None:
        """Refuse a plan made for another backbone, depth or other pre-trained weights.

        Weights that are not pre-trained are not compared: a checkpoint is still to be loaded.

        Raises:
            ValueError: With the difference.
        """
        name = self.name and canonical_name(self.name)
        plan.check_backbone(name, self.depth, self.fingerprint() if self.pretrained else None)


def count_parameters(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def load_backbone(
    backbone: str | nn.Module, *, blocks: str | None = None, **arguments: Any
) -> Backbone:
    """Build a full backbone by its registry name, or take one that is there.

    Args:
        backbone: A name of TerraTorch's backbone registry, or a backbone.
        blocks: Dotted name of its list of blocks, where no rule finds the one that is meant.
        **arguments: Arguments of the registry's builder. With a module only ``pretrained``, to say
            whether its weights are.

    Raises:
        ValueError: If the name is unknown, the backbone cannot be cut, an argument is wrong, or a
            checkpoint does not fit.
        FileNotFoundError: If the checkpoint does not exist.
    """
    if isinstance(backbone, nn.Module):
        pretrained = arguments.pop("pretrained", None)
        if arguments:
            raise ValueError(f"arguments {sorted(arguments)} only go with a name, not a module")
        return Backbone(backbone, *find_family(backbone, blocks), pretrained=pretrained)
    name = canonical_name(backbone)
    found = check_arguments(name, arguments, blocks)
    with Loading() as loading:
        module = build_full(name, arguments)
    return wrap_backbone(module, name, arguments, blocks, found, loading)


def check_arguments(
    name: str, arguments: dict[str, Any], blocks: str | None = None
) -> Found | None:
    """Refuse what can be refused before a backbone is built.

    Returns:
        Its family and where its blocks are, where its layers had to say.

    Raises:
        ValueError: If there is no such backbone, its depth cannot be cut, or its checkpoint cannot
            be read.
        FileNotFoundError: If the checkpoint does not exist.
    """
    check_name(name)
    family = name_family(name) or STRUCTURE
    for refused, reason in family.refused_arguments.items():
        if arguments.get(refused):
            raise ValueError(f"{name} cannot be cut with {refused}: {reason}")
    known = family.known_arguments()
    if known is not None:
        _warn_of_unknown(name, arguments, known)
    checkpoint = find_checkpoint(family, arguments)
    if checkpoint is not None:
        check_readable(checkpoint, family, name)
    if family.path is None or blocks is not None:
        # Whether it can be cut shows from its layers: better before a download than after.
        return find_family(sketch(name, arguments), blocks, name)
    return None


def _warn_of_unknown(name: str, arguments: dict[str, Any], known: set[str]) -> None:
    """Warn of arguments that the builder swallows without a word, with what may be meant."""
    for unknown in sorted(arguments.keys() - known):
        close = difflib.get_close_matches(unknown, known, n=2, cutoff=0.75)
        guess = f" (did you mean {' or '.join(close)}?)" if close else ""
        logger.warning("%s takes no argument '%s': TerraTorch ignores it%s", name, unknown, guess)


def wrap_backbone(
    module: nn.Module,
    name: str,
    arguments: dict[str, Any],
    blocks: str | None,
    found: Found | None,
    loading: Loading,
) -> Backbone:
    """Take a full backbone that the registry built by this name and these arguments.

    Args:
        module: The backbone.
        name: Its name.
        arguments: What it was built with.
        blocks: Dotted name of its list of blocks, where it was named.
        found: What :func:`check_arguments` gave for the same.
        loading: What was seen while it was built.

    Raises:
        ValueError: If it cannot be cut, or the weights that it was to be built with are missing.
    """
    family, path = found or find_family(module, blocks, name)
    pretrained = reads_weights(family, arguments)
    # What a builder that no family knows calls pre-trained is its own matter.
    if pretrained and (family is not STRUCTURE or find_checkpoint(family, arguments) is not None):
        check_loaded(loading, module, family, path, name, arguments)
    return Backbone(module, family, path, name, dict(arguments), pretrained)
