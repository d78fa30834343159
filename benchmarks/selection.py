"""What selection costs, against one plain forward pass over the same tiles of the sample."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import torch

import terratorch_simpler as simpler
from benchmarks.ratios import ratio
from terratorch_simpler.backbones import load_backbone
from terratorch_simpler.selection import run_selection
from terratorch_simpler.settings import Settings

BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]


def measure() -> dict[str, Any]:
    """Ratio of ``select``, reading and plan included, to reading the tiles and one forward pass."""
    samples = files("terratorch_simpler") / "samples"
    tiles = simpler.GeoTiffTiles(str(samples / "train" / "images"), BANDS, size=128, samples=48)
    backbone = load_backbone(
        "prithvi_eo_v2_tiny_tl",
        pretrained=True,
        ckpt_path=str(samples / "prithvi_eo_v2_tiny_tl.pt"),
        bands=BANDS,
    )
    backbone.module.eval()

    @torch.inference_mode()
    def forward() -> None:
        for batch in tiles:
            backbone.module(batch["image"])

    def select() -> None:
        run_selection(backbone, tiles, Settings(progress=False))

    return {"tiny_48_tiles_select_over_forward": ratio(select, forward)}
