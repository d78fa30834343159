"""Which backbones of TerraTorch's registry can be cut, read from sketches without weights."""

from __future__ import annotations

import fnmatch
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.backbones.build import (
    builder_parameters,
    canonical_name,
    full_sources,
    name_family,
    sketch,
)
from terratorch_simpler.backbones.families import find_family
from terratorch_simpler.backbones.families.tracing import image_size
from terratorch_simpler.messages import one_line
from terratorch_simpler.pruning import prune_backbone


@dataclass(frozen=True)
class Entry:
    """What is known of one name.

    Attributes:
        name: Name in TerraTorch's backbone registry.
        family: Name of the family that knows it; None if its depth cannot be cut.
        blocks: Dotted name of its list of blocks.
        depth: Number of blocks; None if it could not be built here.
        width: Features of a token; None if it could not be run here.
        parameters: Parameters of the full backbone.
        reason: Why its depth cannot be cut, or what else to know.
    """

    name: str
    family: str | None = None
    blocks: str | None = None
    depth: int | None = None
    width: int | None = None
    parameters: int | None = None
    reason: str | None = None


def names(pattern: str | None = None) -> list[str]:
    """Names of full backbones, as they are given in a config.

    Args:
        pattern: Part of a name, or a pattern with ``*`` and ``?`` for all of it.

    Raises:
        ValueError: If no name matches.
    """
    every = [
        canonical_name(f"{prefix}_{name}")
        for prefix, source in full_sources().items()
        for name in source
    ]
    if pattern is None:
        return every
    whole = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    found = [name for name in every if fnmatch.fnmatchcase(name.lower(), whole.lower())]
    if not found:
        raise ValueError(f"no backbone matches '{pattern}': leave it out to see all {len(every)}")
    return found


def entry_of(name: str) -> Entry:
    """Build a backbone without weights, find its blocks, and run it pruned to half its depth."""
    arguments, missing = _needed(name)
    family = name_family(name)
    if missing:
        # Where the family is known by its name, it is known that it can be cut.
        known = family.name if family is not None else None
        return Entry(name, known, reason=f"needs {', '.join(missing)}: build it to see its layers")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = sketch(name, arguments)
            found = Backbone(module, *find_family(module, label=name))
            width = _try_half(found)
    except ValueError as error:
        prefix = f"the depth of {name} cannot be cut: "
        return Entry(name, reason=one_line(error, most=300).removeprefix(prefix))
    except Exception as error:
        # One builder of some hundred authors must not keep the rest of the list from being seen.
        return Entry(
            name, reason=f"could not be looked at ({type(error).__name__}: {one_line(error)})"
        )
    return Entry(name, found.family.name, found.blocks, found.depth, width, found.parameters)


def _needed(name: str) -> tuple[dict[str, Any], list[str]]:
    """Arguments without which the builder fails, and those that cannot be made up."""
    family = name_family(name)
    if family is not None and family.example_arguments:
        return dict(family.example_arguments), []
    required = [
        parameter.name
        for parameter in builder_parameters(name).values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    known = {"model_bands": ["RED", "GREEN", "BLUE"]}
    return {key: known[key] for key in required if key in known}, [
        key for key in required if key not in known
    ]


def _try_half(backbone: Backbone) -> int | None:
    """Run the backbone and half of it on the meta device; the width of a token where that works.

    Raises:
        ValueError: If the full backbone runs but half of it does not, or gives something else.
    """
    width: list[int] = []
    module, family = backbone.module, backbone.family
    handle = family.called(backbone.block_list[0])[0].register_forward_pre_hook(
        lambda _block, given: width.append(given[0].shape[-1])
    )
    half = prune_backbone(backbone, list(range(backbone.depth // 2)))

    def image() -> Any:
        return family.example_image(module, image_size(module))

    try:
        with torch.no_grad(), torch.device("meta"):
            full = _shapes(module(image()))
            handle.remove()
            try:
                pruned = _shapes(half(image()))
            except Exception as error:
                raise ValueError(f"half of it does not run: {one_line(error)}") from error
    except (RuntimeError, NotImplementedError, AssertionError, TypeError):
        # Some compute with numbers read from tensors, which a meta tensor does not hold.
        return None
    finally:
        handle.remove()
    if pruned != full:
        raise ValueError(f"half of it gives {pruned}, all of it {full}")
    return width[0] if width else None


def _shapes(outputs: object) -> Any:
    if isinstance(outputs, torch.Tensor):
        return list(outputs.shape)
    assert isinstance(outputs, list | tuple)
    return [_shapes(output) for output in outputs]
