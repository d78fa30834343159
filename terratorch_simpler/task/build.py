"""The task of a TerraTorch config, built: its backbone, bands, tiles and normalisation."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import nn

from terratorch_simpler.backbones.backbone import Backbone, Found, check_arguments, wrap_backbone
from terratorch_simpler.backbones.build import build_full, canonical_name, name_family
from terratorch_simpler.backbones.checkpoints import find_checkpoint
from terratorch_simpler.backbones.families import STRUCTURE
from terratorch_simpler.backbones.loading import Loading
from terratorch_simpler.bands import band_names
from terratorch_simpler.lightning import quiet_lightning
from terratorch_simpler.messages import one_line
from terratorch_simpler.probing.labels import Labels, labels_of_task
from terratorch_simpler.profiling.profiled import backbone_place
from terratorch_simpler.task.config import TaskConfig
from terratorch_simpler.task.convert import convert_arguments, is_converted

_OR_NONE = re.compile(
    r"Does not validate against any of the Union subtypes\s.*?Errors:\s+- (.*?)"
    r"\s+- Expected a <class 'NoneType'>.*",
    re.DOTALL,
)
"""What jsonargparse says where a section may be left out; the group is what is wrong with it."""


@dataclass(frozen=True)
class Task:
    """The task of a config, built.

    Attributes:
        config: The config.
        backbone: The full backbone of the task, with its weights.
        datamodule: The task's datamodule, if the config has one.
        labels: What the labels of its tiles are, if the task has some that a probe reads.
        task: Class of the task.
        model: Its model, around the backbone itself. What wraps that one (LoRA, several dates) is
            left out.
    """

    config: TaskConfig
    backbone: Backbone
    datamodule: LightningDataModule | None
    labels: Labels | None
    task: str
    model: nn.Module

    @property
    def bands(self) -> list[str] | None:
        """Bands that the backbone reads, if the config names them."""
        return self.backbone.bands

    @property
    def dataset_bands(self) -> list[str] | None:
        """Bands that the datamodule's files hold, if it says so."""
        return band_names(getattr(self.datamodule, "dataset_bands", None))

    def normalisation(self) -> tuple[list[float], list[float]] | None:
        """Means and standard deviations of the datamodule, where it keeps them as usual."""
        aug = getattr(self.datamodule, "aug", None)
        values = getattr(aug, "means", None), getattr(aug, "stds", None)
        # A dict holds one list a modality, a tensor of more dimensions one value a frame.
        if any(value is None or isinstance(value, dict) for value in values):
            return None
        if any(getattr(value, "ndim", 1) > 1 for value in values):
            return None
        # Some divide the pixels first.
        scale = float(getattr(aug, "max_pixel_value", None) or 1)
        means, stds = ([scale * float(number) for number in value] for value in values)  # type: ignore[union-attr]
        return means, stds


def read_task(config: TaskConfig, blocks: str | None = None) -> Task:
    """Build the task of a config as ``terratorch fit`` would.

    Args:
        config: The config.
        blocks: Dotted name of its backbone's list of blocks, where no rule finds it.

    Raises:
        FileNotFoundError: If a checkpoint does not exist.
        ValueError: If the config is wrong, or its backbone cannot be cut.
    """
    built = build_task(config, blocks)
    name, arguments = built.name, built.backbone_arguments
    place, loading = backbone_place(built.model), built.loading
    module = built.model.get_submodule(place)
    if _is_changed(built):
        with Loading() as loading:
            module = build_full(name, arguments)
        built.model.set_submodule(place, module)
    backbone = wrap_backbone(module, name, arguments, blocks, built.found, loading)
    by_frame = bool(built.arguments.get("backbone_use_temporal"))
    labels, task = labels_of_task(built.task), type(built.task).__name__
    backbone = replace(backbone, by_frame=by_frame)
    return Task(config, backbone, built.datamodule, labels, task, built.model)


@dataclass(frozen=True)
class BuiltTask:
    """What TerraTorch built of a config.

    Attributes:
        name: Name of the full backbone in its registry.
        arguments: The config's ``model_args``; those of a deprecated factory converted.
        task: The task.
        datamodule: Its datamodule, if it has one.
        found: What was known of its backbone before.
        loading: What was seen while it was built.
    """

    name: str
    arguments: dict[str, Any]
    task: Any
    datamodule: LightningDataModule | None
    found: Found | None
    loading: Loading

    @property
    def model(self) -> Any:
        """The task's model."""
        return self.task.model

    @property
    def backbone_arguments(self) -> dict[str, Any]:
        """What the registry's builder takes."""
        return backbone_arguments(self.arguments)


def build_task(config: TaskConfig, blocks: str | None = None) -> BuiltTask:
    """Build everything in a config, once its backbone's arguments are found to be right.

    Raises:
        FileNotFoundError: If a checkpoint does not exist.
        ValueError: If the config is wrong.
    """
    name = canonical_name(config.backbone)
    found = check_arguments(name, backbone_arguments(config.model_args), blocks)
    with Loading() as loading:
        cli = _build(config)
    # What jsonargparse made of them: numbers like 1e-4 are text to a plain YAML reader.
    init_args = cli.config["model"]["init_args"]
    arguments = dict(init_args["model_args"])
    if is_converted(init_args):
        arguments = convert_arguments(arguments)
    return BuiltTask(name, arguments, cli.model, cli.datamodule, found, loading)


def _is_changed(built: BuiltTask) -> bool:
    """Whether the task's backbone is not the full one: it is built once more then.

    LoRA adds layers, a temporal wrapper hides it, and some builders leave blocks out.
    """
    family = name_family(built.name)
    return (
        built.arguments.get("peft_config") is not None
        or bool(built.arguments.get("backbone_use_temporal"))
        or (family is not None and not family.builds_all(built.backbone_arguments))
    )


def backbone_arguments(model_args: Mapping[str, Any]) -> dict[str, Any]:
    """What the registry's builder takes; the temporal wrapper's arguments are the factory's."""
    prefix = "backbone_"
    given = {k.removeprefix(prefix): v for k, v in model_args.items() if k.startswith(prefix)}
    return {k: v for k, v in given.items() if not k.startswith(("use_temporal", "temporal_"))}


def _build(config: TaskConfig) -> Any:
    from terratorch.cli_tools import build_lightning_cli, import_custom_modules

    path, said = config.path, io.StringIO()
    try:
        if config.custom_modules is not None:
            # TerraTorch itself reads the key for its subcommands only.
            import_custom_modules(config.custom_modules)
        with contextlib.redirect_stderr(said), quiet_lightning():
            return build_lightning_cli(["--config", str(path)], run=False)
    except SystemExit as error:
        reason = plainly(said.getvalue().partition("error:")[2])
        raise ValueError(f"{path} is not a valid TerraTorch config: {reason}") from error
    except Exception as error:
        # Whatever a task, datamodule or trainer raises is about the config.
        family = name_family(canonical_name(config.backbone)) or STRUCTURE
        checkpoint = find_checkpoint(family, backbone_arguments(config.model_args))
        weights = f" with the checkpoint {checkpoint.file}" if checkpoint is not None else ""
        raise ValueError(
            f"TerraTorch cannot build the task of {path}{weights}: {plainly(str(error))}"
        ) from error


def plainly(said: str) -> str:
    """What jsonargparse says of a section, in one line: what is wrong with it."""
    return one_line(ValueError(_OR_NONE.sub(r"\1", said)))
