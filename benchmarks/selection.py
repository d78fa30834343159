"""What selection costs: against a forward pass of the same tiles, and an epoch of training."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from benchmarks.ratios import ratio
from terratorch_simpler.backbones.backbone import Backbone, load_backbone
from terratorch_simpler.precision import full_float32
from terratorch_simpler.selection.groups import TILES_PER_GROUP
from terratorch_simpler.selection.select import SelectionWarning, run_selection
from terratorch_simpler.selection.settings import Settings
from terratorch_simpler.tiles import Pooling
from terratorch_simpler.tiles.geotiff import GeoTiffTiles

BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
SMALL, SIZE, BATCH = "prithvi_eo_v2_tiny_tl", 224, 8
MANY = 100_000
"""More tiles than any section has."""


def measure() -> Iterator[tuple[str, dict[str, float]]]:
    """Ratios of ``select``, plan included, to one forward pass; and of an epoch to ``select``.

    All tiles are used (no early stop). Tiles of 224 x 224 px lie in memory for both; in
    ``sample_from_disk`` both read the sample's chips from disk.
    """
    for pooling in TILES_PER_GROUP:
        found = _from_memory(SMALL, 128, pooling)
        yield f"prithvi_tiny_128_tiles_{pooling}", found
    yield "prithvi_300m_16_tiles_tokens", _from_memory("prithvi_eo_v2_300", 16, "tokens")
    found = _from_memory("terramind_v1_base", 16, "tokens", bands=12, modalities=["S2L2A"])
    yield "terramind_base_16_tiles_tokens", found
    yield "sample_from_disk", _ratio(*sample(), "tokens")
    yield "epoch_on_the_sample_over_select", _epoch_over_select()


def _from_memory(
    name: str, tiles: int, pooling: Pooling, bands: int = 6, **arguments: Any
) -> dict[str, float]:
    backbone = load_backbone(name, **arguments)
    batches = [torch.randn(BATCH, bands, SIZE, SIZE) for _ in range(tiles // BATCH)]
    return _ratio(backbone, batches, pooling)


def sample() -> tuple[Backbone, GeoTiffTiles]:
    """The sample's backbone, with its weights, and its 48 training chips of 128 px."""
    samples = files("terratorch_simpler") / "samples"
    checkpoint = str(samples / f"{SMALL}.pt")
    backbone = load_backbone(SMALL, pretrained=True, ckpt_path=checkpoint, bands=BANDS)
    tiles = str(samples / "train" / "images")
    return backbone, GeoTiffTiles(tiles, BANDS, size=128, samples=48)


def _epoch_over_select() -> dict[str, float]:
    """An epoch of fine-tuning on the sample, without validation, over ``select`` on its tiles."""
    from lightning.pytorch import Trainer

    from terratorch_simpler.lightning import quiet_lightning
    from terratorch_simpler.task.build import build_task, read_task
    from terratorch_simpler.task.config import TaskConfig
    from terratorch_simpler.task.sample import sample_config

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "task.yaml"
        file.write_text(sample_config())
        config = TaskConfig.read(file)
        task = read_task(config)
        built = build_task(config)

        def epoch() -> None:
            with quiet_lightning():
                Trainer(
                    accelerator="cpu",
                    max_epochs=1,
                    limit_val_batches=0,
                    logger=False,
                    enable_checkpointing=False,
                    enable_progress_bar=False,
                    enable_model_summary=False,
                ).fit(built.task, datamodule=built.datamodule)

        return ratio(epoch, selecting(task.backbone, task.datamodule, "tokens"))


def _ratio(backbone: Backbone, tiles: Any, pooling: Pooling) -> dict[str, float]:
    backbone.module.eval()

    # As `select` computes, whatever importing TerraTorch has set.
    @full_float32()
    @torch.inference_mode()
    def forward() -> None:
        for batch in tiles:
            backbone.module(batch["image"] if isinstance(batch, dict) else batch)

    return ratio(selecting(backbone, tiles, pooling), forward)


def selecting(backbone: Backbone, tiles: Any, pooling: Pooling) -> Callable[[], object]:
    """What ``select`` does, on all tiles."""
    settings = Settings(pooling=pooling, samples=MANY, early_stop=False, progress=False)

    def run() -> object:
        with warnings.catch_warnings():
            # Random numbers, and mostly random weights, are what is measured here.
            warnings.simplefilter("ignore", SelectionWarning)
            return run_selection(backbone, tiles, settings)

    return run
