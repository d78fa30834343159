"""What is known of one name of the registry, and the names that a pattern means: no torch."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass


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


def matching(names: Sequence[str], pattern: str | None = None) -> list[str]:
    """Those of some names that are meant.

    Args:
        names: All there are.
        pattern: Part of a name, or a pattern with ``*`` and ``?`` for all of it; None for all.

    Raises:
        ValueError: If no name matches.
    """
    if pattern is None:
        return list(names)
    whole = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    found = [name for name in names if fnmatch.fnmatchcase(name.lower(), whole.lower())]
    if not found:
        raise ValueError(f"no backbone matches '{pattern}': leave it out to see all {len(names)}")
    return found
