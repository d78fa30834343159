"""Baselines: which blocks to keep at a depth that the user names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def block_influence(cosine: Matrix, depth: int) -> list[int]:
    """Blocks with the largest influence ``1 - cos(input, output)`` (ShortGPT, Men et al. 2024).

    Args:
        cosine: [L + 1, L + 1] mean cosine between layers.
        depth: How many blocks to keep.

    Returns:
        Sorted 0-based indices of the kept blocks.
    """
    influence = 1 - np.diagonal(cosine, offset=1)
    return sorted(int(block) for block in np.argsort(-influence, kind="stable")[:depth])


def angular_distance(angle: Matrix, depth: int) -> list[int]:
    """All blocks but the run whose input and output are closest in angle (Gromov et al. 2024).

    Args:
        angle: [L + 1, L + 1] mean angle between layers, over pi.
        depth: How many blocks to keep.

    Returns:
        Sorted 0-based indices of the kept blocks; the cut may lie inside.
    """
    total = len(angle) - 1
    removed = total - depth
    start = int(np.argmin(np.diagonal(angle, offset=removed))) if removed else total
    return [block for block in range(total) if not start <= block < start + removed]


def uniform(total: int, depth: int) -> list[int]:
    """Evenly spaced blocks, the last one included: 0-based indices."""
    return [-(-(i + 1) * total // depth) - 1 for i in range(depth)]


def first(total: int, depth: int) -> list[int]:
    """The first ``depth`` blocks: 0-based indices."""
    del total
    return list(range(depth))


BASELINES = ("block_influence", "angular_distance", "uniform", "first")
"""Ways to choose which blocks to keep at a depth that the user names."""


def baseline_blocks(name: str, cosine: Matrix, angle: Matrix, depth: int) -> list[int]:
    """Blocks that a baseline of :data:`BASELINES` keeps at a named depth.

    Args:
        name: Name of the baseline.
        cosine: [L + 1, L + 1] mean cosine between layers.
        angle: [L + 1, L + 1] mean angle between layers, over pi.
        depth: How many blocks to keep.

    Returns:
        Sorted 0-based indices.
    """
    total = len(cosine) - 1
    choices: dict[str, Callable[[], list[int]]] = {
        "block_influence": lambda: block_influence(cosine, depth),
        "angular_distance": lambda: angular_distance(angle, depth),
        "uniform": lambda: uniform(total, depth),
        "first": lambda: first(total, depth),
    }
    return choices[name]()
