"""How long ``profile`` takes for Prithvi-EO-2 100M with UNet, and how far off it is."""

from __future__ import annotations

import time
from typing import Any

import terratorch_simpler as simpler
from benchmarks.pruning import CHANNELS, unet

NAME = "prithvi_eo_v2_100_tl"
TIMES = ("inference_seconds", "step_seconds", "inference_bytes", "step_bytes")


def measure() -> dict[str, Any]:
    """Seconds and depths measured; then every depth measured, and the interpolation against it."""
    model = unet(NAME, CHANNELS[0], indices=[2, 5, 8, 11])
    start = time.perf_counter()
    quick = simpler.profile(model, size=112, batch_size=1, rounds=3)
    between = time.perf_counter()
    full = simpler.profile(model, size=112, batch_size=1, rounds=3, every_depth=True)
    end = time.perf_counter()
    measured = [row.depth for row in quick.rows if row.times == "measured"]
    misses = {
        what: max(
            abs(getattr(row, what) / getattr(full.row(row.depth), what) - 1)
            for row in quick.rows
            if row.times == "interpolated"
        )
        for what in TIMES
        if getattr(quick.rows[0], what) is not None
    }
    return {
        "depths_measured": measured,
        "time_of_every_depth_over_that_of_these": round((end - between) / (between - start), 2),
        "seconds": round(between - start),
        "stated_largest_miss": quick.residual,
        **{f"largest_miss_{what}": round(miss, 4) for what, miss in misses.items()},
    }
