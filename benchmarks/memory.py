"""Peak memory of selection beyond that of a forward pass of the same tiles.

Prithvi-EO-2 300M has 25 layers, 1024 wide; the tiny one, 13 layers of 192, allows many tiles. Each
measurement runs in a process of its own, ``python -m benchmarks.memory BACKBONE forward|select
TILES``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.archive import peak_mb

TILES = {"prithvi_eo_v2_tiny_tl": 4_096, "prithvi_eo_v2_300": 256}
SIZE, BATCH = 64, 8


def measure() -> Iterator[tuple[str, dict[str, float]]]:
    """Peak MB of both, and the difference, by backbone and number of tiles."""
    for name, tiles in TILES.items():
        forward, select = (_in_process(name, what, tiles) for what in ("forward", "select"))
        peaks = {"forward_mb": forward, "select_mb": select, "beyond_mb": select - forward}
        yield f"{name}_{tiles}_tiles", {what: round(mb, 1) for what, mb in peaks.items()}


def _in_process(name: str, what: str, tiles: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", name, what, str(tiles)]
    root = Path(__file__).resolve().parent.parent
    output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return float(json.loads(output.splitlines()[-1]))


def _measure(name: str, what: str, tiles: int) -> float:
    import torch
    from torch.utils.data import DataLoader, Dataset

    from benchmarks.selection import selecting
    from terratorch_simpler.backbones.backbone import load_backbone

    class Noise(Dataset[torch.Tensor]):
        """Made when they are asked for, so that the tiles themselves take no memory."""

        def __len__(self) -> int:
            return tiles

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.randn(6, SIZE, SIZE, generator=torch.Generator().manual_seed(index))

    backbone = load_backbone(name)
    backbone.module.eval()
    loader = DataLoader(Noise(), batch_size=BATCH)
    if what == "forward":
        with torch.inference_mode():
            for batch in loader:
                backbone.module(batch)
    else:
        selecting(backbone, loader, "tokens")()
    return peak_mb()


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
