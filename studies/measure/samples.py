"""What a backbone makes of a task's training tiles, from one pass and without training."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from terratorch_simpler.selection.loop import SelectionLoop, run_loop
from terratorch_simpler.selection.sampling import LayerSampler
from terratorch_simpler.selection.select import run_selection
from terratorch_simpler.selection.settings import Settings
from terratorch_simpler.task.config import Task, read_task
from terratorch_simpler.tiles.sources import open_source

MANY = 10_000
"""Tiles: more than any task here has."""
QUIET = Settings(early_stop=False, progress=False)


def read(config: dict[str, Any]) -> Task:
    """The backbone and the datamodule of a config."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "task.yaml"
        file.write_text(yaml.safe_dump(config))
        return read_task(file)


def samples_of(task: Task, settings: Settings = QUIET) -> Tensor:
    """Samples of every training tile of a task: [tiles, layers, samples of a tile, width]."""
    source = open_source(task.datamodule, MANY, 0)
    loop = SelectionLoop(task.backbone, source, settings, 0, MANY)
    kept = _Keeping(task.backbone, settings.pooling, settings.tokens, 0)
    loop.sampler = kept
    run_loop(loop, source, settings)
    return torch.cat(kept.samples, dim=1).transpose(0, 1)


def blocks_of(config: dict[str, Any], criterion: str, depth: int) -> list[int]:
    """The blocks that a criterion keeps at a named depth, 0-based."""
    task = read(config)
    settings = replace(QUIET, criterion=criterion, depth=depth)
    return run_selection(task.backbone, task.datamodule, settings).plan.kept_blocks


class _Keeping(LayerSampler):
    """A sampler that remembers."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.samples: list[Tensor] = []

    def __call__(self, images: Any, places: Sequence[int], **inputs: Tensor) -> Tensor:
        samples = super().__call__(images, places, **inputs)
        self.samples.append(samples.cpu())
        return samples
