"""Looking at the names of TerraTorch's registry, by sketches of backbones without weights."""

from __future__ import annotations

import warnings
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
from terratorch_simpler.catalogue.entry import Entry
from terratorch_simpler.messages import one_line
from terratorch_simpler.pruning import prune_backbone


def every_name() -> list[str]:
    """Names of all full backbones of the registry, as they are given in a config."""
    return [
        canonical_name(f"{prefix}_{name}")
        for prefix, source in full_sources().items()
        for name in source
    ]


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
