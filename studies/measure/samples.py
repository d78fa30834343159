"""What a backbone makes of a task's training tiles, from one pass and without training."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule
from torch import Tensor

from terratorch_simpler.layers.features import read_layers
from terratorch_simpler.selection.select import run_selection
from terratorch_simpler.selection.settings import Settings
from terratorch_simpler.task.build import Task, read_task
from terratorch_simpler.task.config import TaskConfig

MANY = 10_000
"""Tiles: more than any task here has."""
QUIET = Settings(early_stop=False, progress=False)


def read(config: dict[str, Any]) -> Task:
    """The backbone and the datamodule of a config."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "task.yaml"
        file.write_text(yaml.safe_dump(config))
        return read_task(TaskConfig.read(file))


def data_of(task: Task) -> LightningDataModule:
    """The datamodule of a task: every config of the studies has one."""
    assert task.datamodule is not None
    return task.datamodule


def samples_of(
    task: Task, settings: Settings = QUIET, anchors: int = 0, most: int = MANY
) -> Tensor:
    """Samples of the training tiles of a task: [tiles, layers, samples of a tile, width].

    Args:
        task: The task.
        settings: How they are sampled.
        anchors: Samples of a tile whose partners follow.
        most: Tiles, by default all.
    """
    return read_layers(
        task.backbone,
        data_of(task),
        pooling=settings.pooling,
        tokens=settings.tokens,
        samples=most,
        accelerator=settings.accelerator,
        precision=settings.precision,
        anchors=anchors,
    ).transpose(0, 1)


def blocks_of(config: dict[str, Any], criterion: str, depth: int) -> list[int]:
    """The blocks that a criterion keeps at a named depth, 0-based."""
    task = read(config)
    settings = replace(QUIET, criterion=criterion, depth=depth)
    return run_selection(task.backbone, data_of(task), settings).plan.kept_blocks
