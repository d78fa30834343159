"""Full backbones: built by name through TerraTorch's registry, with errors that help."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
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
from terratorch_simpler.plan import PruningPlan

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
    """Refuse a backbone that cannot be cut or a checkpoint that is not there.

    Raises:
        ValueError: As :func:`check_name`.
        FileNotFoundError: If the checkpoint does not exist.
    """
    check_name(name)
    checkpoint = arguments.get("ckpt_path")
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise FileNotFoundError(f"no checkpoint at {checkpoint} (ckpt_path of {name})")


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
    """Build through the registry, without its habit of hiding a KeyError."""
    from terratorch.utils import InvalidModelError

    found = find_source(name)
    assert found is not None
    source, own_name = found
    checkpoint = arguments.get("ckpt_path")
    try:
        module: nn.Module = source.build(own_name, **arguments)
    except InvalidModelError as error:
        raise ValueError(f"{name} could not be built: missing key {error.__context__}") from error
    except TypeError as error:
        raise ValueError(f"{name} could not be built from {arguments}: {error}") from error
    except (RuntimeError, UnpicklingError, EOFError) as error:
        if checkpoint is None:
            raise
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the checkpoint {checkpoint} does not fit {name}: {reason[:300]}"
        ) from error
    return module


def _check_checkpoint(path: Path, module: nn.Module, family: Family, name: str) -> None:
    """Refuse a checkpoint without the blocks' weights, which TerraTorch would only log."""
    weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    held = {str(key).rpartition(f"{family.blocks}.")[2] for key in weights}
    wanted = [key for key, _ in blocks_of(module, family).named_parameters()]
    missing = [key for key in wanted if key not in held]
    if missing:
        raise ValueError(
            f"the checkpoint {path} does not hold {name}: {len(missing)} of {len(wanted)} block "
            f"weights are missing, the first is {family.blocks}.{missing[0]}"
        )
