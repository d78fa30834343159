"""What selection costs, against one plain forward pass over the same tiles."""

from __future__ import annotations

import warnings
from importlib.resources import files
from typing import Any

import torch

import terratorch_simpler as simpler
from benchmarks.ratios import ratio
from terratorch_simpler.backbones import load_backbone
from terratorch_simpler.groups import TILES_PER_GROUP, Pooling
from terratorch_simpler.selection import SelectionWarning, run_selection
from terratorch_simpler.settings import Settings

BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
SIZE, BATCH = 224, 8


def measure() -> dict[str, Any]:
    """Ratios of ``select``, plan included, to one forward pass.

    All tiles are used (no early stop). Tiles of 224 x 224 px lie in memory for both; in the last
    case both read the sample's chips from disk.
    """
    return {
        **{
            f"prithvi_tiny_512_tiles_{pooling}": _from_memory("prithvi_eo_v2_tiny_tl", 512, pooling)
            for pooling in TILES_PER_GROUP
        },
        "prithvi_300m_32_tiles_tokens": _from_memory("prithvi_eo_v2_300", 32, "tokens"),
        "terramind_base_32_tiles_tokens": _from_memory(
            "terramind_v1_base", 32, "tokens", bands=12, modalities=["S2L2A"]
        ),
        "sample_from_disk": _from_disk(),
    }


def _from_memory(
    name: str, tiles: int, pooling: Pooling, bands: int = 6, **arguments: Any
) -> dict[str, float]:
    backbone = load_backbone(name, **arguments)
    backbone.module.eval()
    batches = [torch.randn(BATCH, bands, SIZE, SIZE) for _ in range(tiles // BATCH)]
    return _ratio(backbone, batches, Settings(pooling=pooling, early_stop=False, progress=False))


def _from_disk() -> dict[str, float]:
    samples = files("terratorch_simpler") / "samples"
    tiles = simpler.GeoTiffTiles(str(samples / "train" / "images"), BANDS, size=128, samples=48)
    backbone = load_backbone(
        "prithvi_eo_v2_tiny_tl",
        pretrained=True,
        ckpt_path=str(samples / "prithvi_eo_v2_tiny_tl.pt"),
        bands=BANDS,
    )
    backbone.module.eval()
    return _ratio(backbone, tiles, Settings(early_stop=False, progress=False))


def _ratio(backbone: Any, tiles: Any, settings: Settings) -> dict[str, float]:
    @torch.inference_mode()
    def forward() -> None:
        for batch in tiles:
            backbone.module(batch["image"] if isinstance(batch, dict) else batch)

    def select() -> None:
        with warnings.catch_warnings():
            # Random weights and numbers are what is measured here.
            warnings.simplefilter("ignore", SelectionWarning)
            run_selection(backbone, tiles, settings)

    return ratio(select, forward)
