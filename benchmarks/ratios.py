"""Timing two things in turn, so that a drift of the machine meets both alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

RUNS = 3
"""Pairs that count, after one that does not."""


def ratio(
    slow: Callable[[], object], fast: Callable[[], object], runs: int = RUNS
) -> dict[str, float]:
    """Run both in turn, once to warm up and then ``runs`` times.

    Returns:
        Median, least and largest of the ratios of each pair, slow over fast.
    """
    return ratios(slow, {"fast": fast}, runs)["fast"]


def ratios(
    slow: Callable[[], object], others: Mapping[str, Callable[[], object]], runs: int = RUNS
) -> dict[str, dict[str, float]]:
    """As :func:`ratio`, of one over each of several, all of which take turns."""
    found: dict[str, list[float]] = {name: [] for name in others}
    for run in range(runs + 1):
        first = _seconds(slow)
        for name, function in others.items():
            over = first / _seconds(function)
            if run > 0:
                found[name].append(over)
    return {
        name: {
            "median": round(median(values), 2),
            "min": round(min(values), 2),
            "max": round(max(values), 2),
        }
        for name, values in found.items()
    }


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
