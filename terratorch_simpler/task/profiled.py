"""The model of a TerraTorch config as what is profiled."""

from __future__ import annotations

from dataclasses import replace

from lightning.pytorch import LightningDataModule

from terratorch_simpler.backbones.backbone import load_backbone
from terratorch_simpler.backbones.build import name_family
from terratorch_simpler.backbones.families import is_known
from terratorch_simpler.profiling.profiled import (
    ProfiledModel,
    backbone_place,
    profiled_task_model,
)
from terratorch_simpler.task.build import build_task
from terratorch_simpler.task.config import TaskConfig


def profiled_config_model(
    config: TaskConfig, blocks: str | None = None
) -> tuple[ProfiledModel, LightningDataModule | None]:
    """The model of a TerraTorch config, built once as ``terratorch fit`` would, and its data.

    Raises:
        FileNotFoundError: If a checkpoint does not exist.
        ValueError: If the config is wrong, or its backbone cannot be cut.
    """
    built = build_task(config, blocks)
    name, arguments = built.name, built.backbone_arguments
    model = built.model
    family = name_family(name)
    place = backbone_place(model)
    encoder = model.get_submodule(place)
    if family and not family.builds_all(arguments) and is_known(encoder):
        full = load_backbone(name, blocks=blocks, **arguments).module
        if not any(weight.requires_grad for weight in encoder.parameters()):
            full.requires_grad_(False)
        model.set_submodule(place, full)
    profiled = profiled_task_model(model, blocks, name, arguments)
    return replace(profiled, label=f"{config.path.stem} ({profiled.label})"), built.datamodule
