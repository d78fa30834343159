"""Full backbones: built by name through TerraTorch's registry, with errors that help."""

from __future__ import annotations

import difflib
import hashlib
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from terratorch_simpler.families import (
    FAMILIES,
    Family,
    Statistics,
    blocks_of,
    family_of_name,
    find_family,
)
from terratorch_simpler.messages import one_line
from terratorch_simpler.plan import PruningPlan

logger = logging.getLogger(__name__)

SOURCE = "simpler"
"""Prefix of pruned backbones in TerraTorch's registry."""


@dataclass(frozen=True)
class Backbone:
    """A full backbone and what is known of it.

    Attributes:
        module: The backbone.
        family: Its family.
        name: Its registry name; None for a module given directly.
        arguments: What the registry built it with.
        pretrained: Whether pre-trained weights were loaded; None if unknown.
    """

    module: nn.Module
    family: Family
    name: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    pretrained: bool | None = None

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(blocks_of(self.module, self.family))

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return count_parameters(self.module)

    @property
    def label(self) -> str:
        """What to call it: the registry name, or the class."""
        return self.name or type(self.module).__name__

    def statistics(self, bands: list[str]) -> Statistics | None:
        """Means and standard deviations its weights were pre-trained with, if published."""
        return self.family.statistics(self.name, bands) if self.name else None

    def fingerprint(self) -> str:
        """SHA-256 over the names and weights of its blocks."""
        digest = hashlib.sha256()
        for name, weight in blocks_of(self.module, self.family).named_parameters():
            digest.update(name.encode())
            # Viewed as bytes, since NumPy has no bfloat16.
            data = weight.detach().cpu().contiguous().view(torch.uint8)
            digest.update(data.numpy().data)
        return digest.hexdigest()

    def release(self) -> None:
        """Let the memory of a module that was built here go as soon as nothing holds it.

        TerraTorch binds ``forward`` to a closure over the module: a cycle that would keep it until
        the next garbage collection.
        """
        self.module.__dict__.pop("forward", None)

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


def canonical_name(name: str) -> str:
    """A registry name without the prefix of its source (``terratorch_``)."""
    return name.removeprefix("terratorch_")


def load_backbone(backbone: str | nn.Module, **arguments: Any) -> Backbone:
    """Build a full backbone by its registry name, or take one that is there.

    Args:
        backbone: A name of TerraTorch's backbone registry, or a backbone.
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
        return Backbone(backbone, find_family(backbone), pretrained=pretrained)
    name = canonical_name(backbone)
    check_arguments(name, arguments)
    return wrap_backbone(_build(name, arguments), name, arguments)


def check_arguments(name: str, arguments: dict[str, Any]) -> None:
    """Refuse a backbone that cannot be cut, or a checkpoint that is not there or none.

    Raises:
        ValueError: As :func:`check_name`, or if the checkpoint is no file of weights.
        FileNotFoundError: If the checkpoint does not exist.
    """
    checkpoint = arguments.get("ckpt_path")
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise FileNotFoundError(f"no checkpoint at {checkpoint} (ckpt_path of {name})")
    check_name(name)
    family = family_of_name(name)
    assert family is not None
    known = family.arguments()
    for unknown in sorted(arguments.keys() - known):
        close = difflib.get_close_matches(unknown, known, n=2, cutoff=0.75)
        if close:
            raise ValueError(
                f"{name} takes no argument '{unknown}': did you mean {' or '.join(close)}?"
            )
        logger.warning("%s takes no argument '%s': TerraTorch ignores it", name, unknown)
    if arguments.get("vit_adapter"):
        raise ValueError(
            f"{name} cannot be cut with vit_adapter, which reads blocks at fixed positions of the "
            "full depth: remove vit_adapter to prune"
        )
    if checkpoint is not None and arguments.get("pretrained"):
        _read_weights(Path(checkpoint), name)


def wrap_backbone(module: nn.Module, name: str, arguments: dict[str, Any]) -> Backbone:
    """Take a full backbone that the registry built by this name and these arguments.

    Raises:
        ValueError: If it cannot be cut, or its checkpoint does not hold its weights.
    """
    family = find_family(module)
    pretrained = bool(arguments.get("pretrained", False))
    checkpoint = arguments.get("ckpt_path")
    if pretrained and checkpoint is not None:
        _check_checkpoint(Path(checkpoint), module, family, name)
    return Backbone(module, family, name, dict(arguments), pretrained)


def full_sources() -> dict[str, Any]:
    """Sources of TerraTorch's backbone registry that hold full backbones, by prefix."""
    from terratorch.registry import BACKBONE_REGISTRY

    prefixes = BACKBONE_REGISTRY.keys()
    return {prefix: BACKBONE_REGISTRY[prefix] for prefix in prefixes if prefix != SOURCE}


def find_source(name: str) -> tuple[Any, str] | None:
    """The source of a full backbone and its name there, or None if there is no such backbone."""
    sources = full_sources()
    prefix, _, rest = name.partition("_")
    if prefix in sources:
        return (sources[prefix], rest) if rest in sources[prefix] else None
    return next(((source, name) for source in sources.values() if name in source), None)


def check_name(name: str) -> None:
    """Refuse a name that is no full backbone that can be cut, before anything is built.

    Raises:
        ValueError: With the nearest names, or the reason.
    """
    if name.startswith(f"{SOURCE}_"):
        raise ValueError(
            f"'{name}' is a pruned backbone already: give the full one, "
            f"'{name.removeprefix(f'{SOURCE}_')}'"
        )
    if find_source(name) is None:
        known = [known for source in full_sources().values() for known in source]
        close = difflib.get_close_matches(name, known, n=4)
        hint = f"did you mean {', '.join(close)}?" if close else "see list(BACKBONE_REGISTRY)"
        raise ValueError(f"TerraTorch has no backbone '{name}': {hint}")
    if family_of_name(name) is None:
        raise ValueError(
            f"the depth of '{name}' cannot be cut: supported families are "
            f"{', '.join(family.name for family in FAMILIES)}"
        )


def _build(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Build through the registry, whose errors say little of the argument that caused them."""
    from terratorch.utils import InvalidModelError

    found = find_source(name)
    assert found is not None
    source, own_name = found
    checkpoint = arguments.get("ckpt_path")
    try:
        module: nn.Module = source.build(own_name, **arguments)
    except (TypeError, AssertionError, ImportError) as error:
        raise ValueError(
            f"{name} could not be built from {arguments}: {one_line(error)}"
        ) from error
    except OSError as error:
        if checkpoint is not None:
            raise
        raise ValueError(
            f"the weights of {name} could not be fetched ({one_line(error)}): connect, or give a "
            "file with ckpt_path"
        ) from error
    except ValueError:
        raise
    except Exception as error:
        # Weights of something else raise all kinds of things.
        if checkpoint is not None:
            raise ValueError(
                f"the checkpoint {checkpoint} does not fit {name}: {one_line(error, most=300)}"
            ) from error
        if isinstance(error, InvalidModelError):
            # TerraTorch's registry hides a KeyError.
            raise ValueError(
                f"{name} could not be built: missing key {error.__context__}"
            ) from error
        raise
    return module


def _read_weights(path: Path, name: str) -> Mapping[str, Any]:
    """The weights in a file by name, mapped into memory where its format allows."""
    try:
        mapped = zipfile.is_zipfile(path)
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        # A file that torch did not write raises all kinds of things.
        raise ValueError(
            f"the checkpoint {path} of {name} is no file of weights, or is damaged (torch.load: "
            f"{type(error).__name__}): give another one as ckpt_path"
        ) from error
    if not isinstance(weights, Mapping):
        raise ValueError(
            f"the checkpoint {path} of {name} holds a {type(weights).__name__}, not weights by "
            "name: give another one as ckpt_path"
        )
    return weights


def _check_checkpoint(path: Path, module: nn.Module, family: Family, name: str) -> None:
    """Refuse a checkpoint without the blocks' weights, which TerraTorch would only log."""
    weights = _read_weights(path, name)
    held = {str(key).rpartition(f"{family.blocks}.")[2] for key in weights}
    wanted = [key for key, _ in blocks_of(module, family).named_parameters()]
    missing = [key for key in wanted if key not in held]
    if missing:
        raise ValueError(
            f"the checkpoint {path} does not hold {name}: {len(missing)} of {len(wanted)} block "
            f"weights are missing, the first is {family.blocks}.{missing[0]}"
        )
