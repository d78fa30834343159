"""Files of weights: which one a builder is given, and whether it can read it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from terratorch_simpler.backbones.families import Family
from terratorch_simpler.backbones.families.stored import by_torch
from terratorch_simpler.messages import one_line

logger = logging.getLogger(__name__)

SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights that a builder is given.

    Attributes:
        argument: The builder's argument that names it.
        file: The file, or an address that the builder fetches it from.
        is_read: Whether the builder reads it.
    """

    argument: str
    file: Any
    is_read: bool

    @property
    def path(self) -> Path | None:
        """Where the file is; None for an address."""
        return None if "://" in str(self.file) else Path(str(self.file)).expanduser()


def find_checkpoint(family: Family[Any], arguments: Mapping[str, Any]) -> Checkpoint | None:
    """The file of weights that a builder's arguments name, if they name one."""
    pretrained = bool(arguments.get("pretrained", False))
    found = None
    for argument, always in family.checkpoints.items():
        value = arguments.get(argument)
        file = value.get("file") if isinstance(value, Mapping) else value
        if file is not None:
            found = Checkpoint(argument, file, always or pretrained)
    return found


def reads_weights(family: Family[Any], arguments: Mapping[str, Any]) -> bool:
    """Whether the registry's builder, given these arguments, loads pre-trained weights."""
    checkpoint = find_checkpoint(family, arguments)
    return bool(arguments.get("pretrained", False)) or (
        checkpoint is not None and checkpoint.is_read
    )


def check_readable(checkpoint: Checkpoint, family: Family[Any], name: str) -> None:
    """Refuse a file that a builder could not read, before a backbone is built.

    Args:
        checkpoint: The file.
        family: Family of the backbone.
        name: Its registry name.

    Raises:
        ValueError: If it cannot be read, or holds no weights where the builder looks for them.
        OSError: If there is no such file, or it cannot be opened.
    """
    path, argument = checkpoint.path, checkpoint.argument
    if not checkpoint.is_read:
        logger.warning("%s of %s is not read: TerraTorch reads it with pretrained", argument, name)
        return
    if path is None:
        return
    if not path.is_file():
        there = ", but a folder" if path.is_dir() else ""
        raise FileNotFoundError(f"no checkpoint at {path}{there} ({argument} of {name})")
    what = f"the checkpoint {path} of {name}"
    try:
        stored = family.stored(path)
    except OSError:
        raise
    except Exception as error:
        # A file that torch did not write raises all kinds of things; timm's come from torch's.
        reason = why_unreadable(path, error.__cause__ or error)
        raise ValueError(f"{what} {reason}, or give another one as {argument}") from error
    if stored is None:
        return
    if not isinstance(stored, Mapping):
        raise ValueError(
            f"{what} holds a {type(stored).__name__}, not weights by name: give another one as "
            f"{argument}"
        )
    if not _count_weights(stored):
        why = (
            f"holds no weights where TerraTorch looks for them: {family.layout}"
            if family.layout is not None
            else _why_empty(path, stored)
        )
        raise ValueError(f"{what} {why}, or give another one as {argument}")


def stored_names(checkpoint: Checkpoint, family: Family[Any]) -> list[str]:
    """Names of the weights in a file that can be read, where a family says how."""
    stored = family.stored(checkpoint.path) if checkpoint.path is not None else None
    return [str(name) for name in stored or ()]


def _count_weights(content: Mapping[Any, Any]) -> int:
    return sum(isinstance(value, Tensor) for value in content.values())


def why_unreadable(
    path: Path, error: BaseException, way_out: str = "save its weights alone, as tensors"
) -> str:
    """Why a file cannot be read as weights, as the rest of a sentence about it.

    Args:
        path: The file.
        error: What reading it raised.
        way_out: What to do where it holds objects that would run code.
    """
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused is not None:
        return f"holds objects that TerraTorch refuses to load ({refused[1]}): {way_out}"
    if _is_safetensors(path):
        return (
            "is in the format of safetensors, which is not read here: save its weights with "
            "torch.save"
            if path.suffix == SAFETENSORS
            else f"is in the format of safetensors: let its name end in {SAFETENSORS}"
        )
    said, name = one_line(error).partition(". ")[0], type(error).__name__
    said = said if said == name else f"{name}: {said}"
    return f"is no file of weights, or is damaged ({said}): see where it comes from"


def _is_safetensors(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):
            return True
    except SafetensorError:
        return False


def _why_empty(path: Path, stored: Mapping[Any, Any]) -> str:
    """Why what a builder finds in a file are no weights."""
    try:
        content = by_torch(path)
    except Exception:
        # timm reads more than torch.
        content = stored
    places = dict(_places(content))
    if places:
        most = max(places, key=places.__getitem__) or "its top level"
        return (
            f"holds its weights in {most}, where TerraTorch does not look for them: save what is "
            "there as a file of its own"
        )
    keys = ", ".join(map(repr, islice(content, 5)))
    return f"holds no weights by name{keys and f', only {keys}'}: see where it comes from"


def _places(content: Mapping[Any, Any], place: str = "") -> Iterator[tuple[str, int]]:
    """Where in a file there are weights by name, and how many."""
    count = _count_weights(content)
    if count:
        yield place, count
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _places(value, f"{place}[{key!r}]")
