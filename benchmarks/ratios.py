"""Timing two things in turn, so that a drift of the machine meets both alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median


def ratio(
    slow: Callable[[], object], fast: Callable[[], object], runs: int = 5
) -> dict[str, float]:
    """Run both in turn, once to warm up and then ``runs`` times.

    Returns:
        Median, least and largest of the ratios of each pair, slow over fast.
    """
    ratios = []
    for run in range(runs + 1):
        times = []
        for function in (slow, fast):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        if run > 0:
            ratios.append(times[0] / times[1])
    return {
        "median": round(median(ratios), 2),
        "min": round(min(ratios), 2),
        "max": round(max(ratios), 2),
    }
