"""Measuring at a few depths and interpolating between them, as far as that can be shown to hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

FEWEST = 5
"""Depths measured at first: the first, the last, and three between that check each other."""

Quantities = Mapping[str, float]


@dataclass(frozen=True)
class Interpolated:
    """Quantities at every depth.

    Attributes:
        values: Quantities by name, by depth 1..L.
        measured: Depths that were measured; the others were interpolated.
        residual: Largest relative error of interpolation at a measured depth beside an interpolated
            one, where that depth is left out; None where every depth was measured.
    """

    values: dict[int, dict[str, float]]
    measured: frozenset[int]
    residual: float | None


def measure_and_interpolate(
    total: int,
    measure: Callable[[list[int]], Mapping[int, Quantities]],
    tolerance: float,
    every_depth: bool = False,
) -> Interpolated:
    """Measure at as few depths as linear interpolation between them allows.

    Each measured depth but the first and last is predicted from its measured neighbours. Where that
    misses by more than the tolerance, the gaps on both sides of it are halved. All depths are then
    measured anew, so that they are compared within one run.

    Args:
        total: Depth of the full model, L.
        measure: Gives the quantities, all above 0, at each of some depths.
        tolerance: Largest relative error of interpolation.
        every_depth: Measure all of them.
    """
    depths = list(range(1, total + 1))
    if not every_depth:
        depths = sorted({round(depth) for depth in np.linspace(1, total, FEWEST).tolist()})
    while True:
        found = measure(depths)
        residuals = _residuals(depths, found)
        wrong = [depth for depth, residual in residuals.items() if residual > tolerance]
        if not wrong:
            break
        depths = sorted({*depths, *_halves(depths, wrong)})
    return Interpolated(
        {depth: _between(depth, depths, found) for depth in range(1, total + 1)},
        frozenset(depths),
        max(residuals.values(), default=None),
    )


def _residuals(depths: list[int], found: Mapping[int, Quantities]) -> dict[int, float]:
    """Error at each measured depth that has a gap beside it, where it is left out."""
    residuals = {}
    for left, depth, right in zip(depths, depths[1:], depths[2:], strict=False):
        if right - left > 2:
            guess = _between(depth, [left, right], found)
            values = found[depth]
            residuals[depth] = max(abs(guess[name] / values[name] - 1) for name in values)
    return residuals


def _halves(depths: list[int], wrong: list[int]) -> set[int]:
    """The middles of the gaps beside some of the depths."""
    gaps = [
        (left, right)
        for left, right in pairwise(depths)
        if right - left > 1 and (left in wrong or right in wrong)
    ]
    return {(left + right) // 2 for left, right in gaps}


def _between(depth: int, depths: list[int], found: Mapping[int, Quantities]) -> dict[str, float]:
    """Quantities at a depth, linear between those of the depths that were found."""
    return {
        name: float(np.interp(depth, depths, [found[known][name] for known in depths]))
        for name in found[depths[0]]
    }
