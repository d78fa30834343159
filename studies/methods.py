"""How a cell of a study is cut and trained: changes to a task's config, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Config = dict[str, Any]

FIRST = "first"


def keep(config: Config, blocks: int | list[int]) -> None:
    """Cut the backbone of a config to its first blocks, or to those listed."""
    arguments = config["model"]["init_args"]["model_args"]
    arguments["backbone"] = f"simpler_{arguments['backbone']}"
    arguments["backbone_keep_blocks"] = blocks


def first(config: Config, total: int, depth: int) -> None:
    """Keep the first blocks, and fine-tune all weights."""
    if depth < total:
        keep(config, depth)


METHODS: dict[str, Callable[[Config, int, int], None]] = {FIRST: first}
