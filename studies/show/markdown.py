"""Markdown of results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def plus_minus(values: Sequence[float]) -> str:
    """Mean and half the range of several seeds; one value as it is."""
    half = (max(values) - min(values)) / 2
    return f"{mean(values):.3f}" + (f" ±{half:.3f}" if len(values) > 1 else "")
