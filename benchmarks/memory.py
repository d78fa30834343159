"""Peak memory of selection beyond that of a forward pass, against the number of tiles.

Prithvi-EO-2 300M: 25 layers, 1024 wide. Each measurement runs in a process of its own,
``python -m benchmarks.memory forward|select TILES``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.archive import peak_mb

NAME, TILES, SIZE, BATCH = "prithvi_eo_v2_300", (64, 512, 4_096), 64, 8


def measure() -> dict[str, Any]:
    """MB beyond the forward pass of as many tiles, by the number of tiles."""
    peaks = {
        (what, tiles): _in_process(what, tiles) for tiles in TILES for what in ("forward", "select")
    }
    return {
        f"mb_beyond_forward_{tiles}_tiles": round(
            peaks["select", tiles] - peaks["forward", tiles], 1
        )
        for tiles in TILES
    } | {f"{what}_mb_{tiles}_tiles": round(peak) for (what, tiles), peak in peaks.items()}


def _in_process(what: str, tiles: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", what, str(tiles)]
    root = Path(__file__).resolve().parent.parent
    output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return float(json.loads(output.splitlines()[-1]))


def _measure(what: str, tiles: int) -> float:
    import torch
    from torch.utils.data import DataLoader, Dataset

    from benchmarks.selection import selecting
    from terratorch_simpler.backbones import load_backbone

    class Noise(Dataset[torch.Tensor]):
        """Made when they are asked for, so that the tiles themselves take no memory."""

        def __len__(self) -> int:
            return tiles

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.randn(6, SIZE, SIZE, generator=torch.Generator().manual_seed(index))

    backbone = load_backbone(NAME)
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
    print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]))))
