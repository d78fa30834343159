"""Full backbones by name: TerraTorch's registry, with errors that help."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, signature
from typing import Any
from urllib.error import URLError

from torch import nn

from terratorch_simpler.backbones.checkpoints import find_checkpoint, stored_names
from terratorch_simpler.backbones.families import STRUCTURE, Family, family_of_name
from terratorch_simpler.backbones.families.tracing import without_memory
from terratorch_simpler.messages import one_line
from terratorch_simpler.results.plan import SOURCE


def canonical_name(name: str) -> str:
    """A registry name without the prefix of its source (``terratorch_``)."""
    return name.removeprefix("terratorch_")


def full_sources() -> dict[str, Any]:
    """Sources of TerraTorch's backbone registry that hold full backbones, by prefix."""
    from terratorch.registry import BACKBONE_REGISTRY

    prefixes = BACKBONE_REGISTRY.keys()
    return {prefix: BACKBONE_REGISTRY[prefix] for prefix in prefixes if prefix != SOURCE}


def find_source(name: str) -> tuple[str, str] | None:
    """Prefix of the source of a full backbone and its name there; None if there is none."""
    sources = full_sources()
    prefix, _, rest = name.partition("_")
    if prefix in sources:
        return (prefix, rest) if _holds(sources[prefix], prefix, rest) else None
    return next(
        ((prefix, name) for prefix, source in sources.items() if _holds(source, prefix, name)), None
    )


def _holds(source: Any, prefix: str, name: str) -> bool:
    """Whether a source has a backbone; timm lists names without the tag of their weights."""
    return name in source or (prefix == "timm" and name.partition(".")[0] in source)


def name_family(name: str) -> Family[Any] | None:
    """The family of a registry name, as far as names tell; None if its layers have to say."""
    found = find_source(name)
    return family_of_name(*found) if found is not None else None


def check_name(name: str) -> None:
    """Refuse a name that is no full backbone, before anything is built.

    Raises:
        ValueError: With the nearest names.
    """
    if name.startswith(f"{SOURCE}_"):
        raise ValueError(
            f"'{name}' is a pruned backbone already: give the full one, "
            f"'{name.removeprefix(f'{SOURCE}_')}'"
        )
    if find_source(name) is None:
        known = [known for source in full_sources().values() for known in source]
        close = difflib.get_close_matches(name, known, n=4)
        hint = (
            f"did you mean {', '.join(close)}?" if close else "see 'terratorch-simpler backbones'"
        )
        raise ValueError(f"TerraTorch has no backbone '{name}': {hint}")


def build_full(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Build a full backbone through the registry, whose errors say little of their cause.

    Raises:
        ValueError: If it cannot be built, with the reason.
    """
    found = find_source(name)
    assert found is not None
    source, own_name = found
    family = family_of_name(source, own_name) or STRUCTURE
    builder = partial(full_sources()[source].build, own_name)
    return _build(name, lambda: family.build(builder, arguments), arguments, family)


def _build(
    name: str, build: Callable[[], nn.Module], arguments: dict[str, Any], family: Family[Any]
) -> nn.Module:
    from terratorch.utils import InvalidModelError

    given = find_checkpoint(family, arguments)
    checkpoint = given if given is not None and given.is_read else None
    file = checkpoint and checkpoint.path
    try:
        return build()
    except (TypeError, AssertionError, ImportError, NotImplementedError) as error:
        raise ValueError(
            f"{name} could not be built from {arguments}: {one_line(error)}"
        ) from error
    except OSError as error:
        if file is not None and not isinstance(error, URLError):
            raise
        # DINOv3 fetches its code even where its weights are a file.
        what = "weights" if file is None else "code"
        instead = f", or give a file with {' or '.join(family.checkpoints)}" if file is None else ""
        raise ValueError(
            f"the {what} of {name} could not be fetched ({one_line(error)}): connect{instead}"
        ) from error
    except ValueError:
        raise
    except Exception as error:
        # Weights of something else raise all kinds of things.
        if checkpoint is not None:
            first = next(iter(stored_names(checkpoint, family)), None)
            named = f", whose first name is {first}" if first is not None else ""
            raise ValueError(
                f"{name} could not be built with {checkpoint.file}{named}: "
                f"{one_line(error, most=300)}"
            ) from error
        if isinstance(error, InvalidModelError):
            # TerraTorch's registry hides a KeyError.
            raise ValueError(
                f"{name} could not be built: missing key {error.__context__}"
            ) from error
        raise


def sketch(name: str, arguments: dict[str, Any]) -> nn.Module:
    """A backbone without weights and memory, to read its layers from."""
    bare = without_weights(name, arguments)
    return without_memory(lambda: build_full(name, bare))


def without_weights(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with which a builder loads no weights, and is the same otherwise."""
    family = name_family(name)
    bare = dict(arguments)
    # Some load weights unless they are told not to, others know of none.
    given = bare.pop("pretrained", None) is not None
    if _loads_unasked(builder_parameters(name), given):
        bare["pretrained"] = False
    files = family.checkpoints if family is not None else {}
    return {key: value for key, value in bare.items() if key not in files}


def _loads_unasked(parameters: Mapping[str, Parameter], given: bool) -> bool:
    """Whether a builder may load weights where ``pretrained`` is left out.

    Args:
        parameters: What it takes.
        given: Whether it was to get ``pretrained``.
    """
    if "pretrained" in parameters:
        return parameters["pretrained"].default is True
    return given and any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def band_arguments(name: str, bands: list[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """What the builder of a registry name takes for bands, beside the arguments given.

    Raises:
        ValueError: If it needs more to know which bands are meant.
    """
    name = canonical_name(name)
    family = name_family(name)
    if family is not None:
        return family.write_bands(bands, given)
    taken = builder_parameters(name)
    argument = next((key for key in ("model_bands", "bands") if key in taken), None)
    return {argument: bands} if argument is not None else {}


def builder_parameters(name: str) -> Mapping[str, Parameter]:
    """Parameters of the builder of a registry name; none where its source does not show it."""
    found = find_source(name)
    assert found is not None
    source = full_sources()[found[0]]
    return signature(source[found[1]]).parameters if hasattr(source, "__getitem__") else {}
