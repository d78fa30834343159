"""What it takes to choose tiles from an archive of 100,000 files: time and memory.

Each measurement runs in a process of its own, ``python -m benchmarks.archive TILES WORKERS
SAMPLES``, with a warm file cache. Times are without that of importing torch and torchgeo.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

from scripts.make_archive import BANDS, make_archive

FILES, SIZE, SAMPLES, MANY = 100_000, 128, 128, 2_048


def measure() -> dict[str, Any]:
    """Seconds to list, then to the first batch and to all; growth of peak memory; by case.

    A worker's memory includes what it shares with the process that it was forked from.
    """
    with tempfile.TemporaryDirectory() as temporary:
        archive, listing = Path(temporary) / "archive", Path(temporary) / "archive.txt"
        names = make_archive(archive, FILES, size=SIZE)
        listing.write_text("".join(f"archive/{name}\n" for name in names))
        cases = {
            f"{what}_{workers}_workers_{samples}_samples": _in_process(tiles, workers, samples)
            for what, tiles, workers, samples in (
                ("folder", archive, 0, SAMPLES),
                ("folder", archive, 0, MANY),
                ("folder", archive, 2, MANY),
                ("list", listing, 0, SAMPLES),
            )
        }
    return {"files": FILES, **cases}


def _in_process(tiles: Path, workers: int, samples: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.archive", str(tiles), str(workers), str(samples)]
    root = Path(__file__).resolve().parent.parent
    output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    result: dict[str, float] = json.loads(output)
    return result


def peak_mb() -> float:
    """Peak memory of this process. What getrusage says of it includes the one that started it."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    return int(peak[1]) / 1024


def _measure(tiles: str, workers: int, samples: int) -> dict[str, float]:
    import torchgeo.datasets  # noqa: F401

    from terratorch_simpler.tiles.geotiff import GeoTiffTiles

    before = peak_mb()
    start = time.perf_counter()
    chips = GeoTiffTiles(tiles, BANDS, size=SIZE, samples=samples, num_workers=workers)
    listed = time.perf_counter()
    batches = iter(chips)
    next(batches)
    first = time.perf_counter()
    for _ in batches:
        pass
    end = time.perf_counter()
    result = {
        "seconds_to_list": round(listed - start, 2),
        "seconds_to_first_batch": round(first - listed, 2),
        "seconds_to_all_batches": round(end - listed, 2),
        "growth_mb": round(peak_mb() - before),
    }
    if workers:
        result["largest_worker_mb"] = round(getrusage(RUSAGE_CHILDREN).ru_maxrss / 1024)
    return result


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
