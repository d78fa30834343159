"""A TerraTorch task config, read for selection: its backbone, bands, tiles and normalisation."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule

from terratorch_simpler.backbones import SOURCE
from terratorch_simpler.backbones.backbone import (
    Backbone,
    check_arguments,
    load_backbone,
    wrap_backbone,
)
from terratorch_simpler.backbones.build import canonical_name, name_family
from terratorch_simpler.bands import band_names
from terratorch_simpler.lightning import quiet_lightning
from terratorch_simpler.messages import one_line
from terratorch_simpler.probing.labels import Labels, labels_of_task

_OR_NONE = re.compile(
    r"Does not validate against any of the Union subtypes\s.*?Errors:\s+- (.*?)"
    r"\s+- Expected a <class 'NoneType'>.*",
    re.DOTALL,
)
"""What jsonargparse says where a section may be left out; the group is what is wrong with it."""


@dataclass(frozen=True)
class Task:
    """What a config says.

    Attributes:
        backbone: The full backbone of the task, with its weights.
        datamodule: The task's datamodule, if the config has one.
        labels: What the labels of its tiles are, if the task has some that a probe reads.
        task: Class of the task.
    """

    backbone: Backbone
    datamodule: LightningDataModule | None
    labels: Labels | None
    task: str

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
        means, stds = ([float(number) for number in value] for value in values)  # type: ignore[union-attr]
        return means, stds


def model_arguments(path: Path) -> dict[str, Any]:
    """The ``model_args`` of a config, checked for what selection needs.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not YAML, no TerraTorch config, or its backbone cannot be replaced.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no config at {path}")
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {one_line(error)}") from error
    node: Any = config
    for key in ("model", "init_args", "model_args"):
        node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise ValueError(
                f"{path} is no TerraTorch task config: it has no model.init_args.model_args"
            )
    factory = config["model"]["init_args"].get("model_factory")
    if factory != "EncoderDecoderFactory":
        raise ValueError(
            f"{path} uses model_factory {factory!r}: only EncoderDecoderFactory builds a backbone "
            "by its registry name"
        )
    backbone = node.get("backbone")
    if backbone is None:
        raise ValueError(f"{path} has no backbone in model.init_args.model_args")
    if not isinstance(backbone, str):
        raise ValueError(
            f"backbone in {path} is a module ({backbone}): give a name of the backbone registry, "
            "since a module cannot be stored in checkpoints"
        )
    if backbone.startswith(f"{SOURCE}_"):
        raise ValueError(
            f"{path} uses {backbone} already: give the config of the full backbone, "
            f"{backbone.removeprefix(f'{SOURCE}_')}"
        )
    arguments: dict[str, Any] = node
    return arguments


def read_task(path: Path, blocks: str | None = None) -> Task:
    """Build the task of a config as ``terratorch fit`` would.

    Args:
        path: The config.
        blocks: Dotted name of its backbone's list of blocks, where no rule finds it.

    Raises:
        FileNotFoundError: If the config or a checkpoint does not exist.
        ValueError: If the config is wrong, or its backbone cannot be cut.
    """
    built = build_task(path, blocks)
    if _is_changed(built):
        backbone = load_backbone(built.name, blocks=blocks, **built.backbone_arguments)
    else:
        encoder = built.model.encoder
        backbone = wrap_backbone(encoder, built.name, built.backbone_arguments, blocks)
    by_frame = bool(built.arguments.get("backbone_use_temporal"))
    labels, task = labels_of_task(built.task), type(built.task).__name__
    return Task(replace(backbone, by_frame=by_frame), built.datamodule, labels, task)


@dataclass(frozen=True)
class BuiltTask:
    """What TerraTorch built of a config.

    Attributes:
        name: Name of the full backbone in its registry.
        arguments: The config's ``model_args``.
        task: The task.
        datamodule: Its datamodule, if it has one.
    """

    name: str
    arguments: dict[str, Any]
    task: Any
    datamodule: LightningDataModule | None

    @property
    def model(self) -> Any:
        """The task's model."""
        return self.task.model

    @property
    def backbone_arguments(self) -> dict[str, Any]:
        """What the registry's builder takes."""
        return _backbone_arguments(self.arguments)


def build_task(path: Path, blocks: str | None = None) -> BuiltTask:
    """Build everything in a config, once its backbone's arguments are found to be right.

    Raises:
        FileNotFoundError: If the config or a checkpoint does not exist.
        ValueError: If the config is wrong.
    """
    wanted = model_arguments(path)
    name = canonical_name(wanted["backbone"])
    check_arguments(name, _backbone_arguments(wanted), blocks)
    cli = _build(path, wanted.get("backbone_ckpt_path"))
    # What jsonargparse made of them: numbers like 1e-4 are text to a plain YAML reader.
    arguments = dict(cli.config["model"]["init_args"]["model_args"])
    return BuiltTask(name, arguments, cli.model, cli.datamodule)


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


def _backbone_arguments(model_args: dict[str, Any]) -> dict[str, Any]:
    """What the registry's builder takes; the temporal wrapper's arguments are the factory's."""
    prefix = "backbone_"
    given = {k.removeprefix(prefix): v for k, v in model_args.items() if k.startswith(prefix)}
    return {k: v for k, v in given.items() if not k.startswith(("use_temporal", "temporal_"))}


def _build(path: Path, checkpoint: str | None) -> Any:
    from terratorch.cli_tools import build_lightning_cli, import_custom_modules

    custom = yaml.safe_load(path.read_text()).get("custom_modules_path")
    said = io.StringIO()
    try:
        if custom is not None:
            # TerraTorch itself reads the key for its subcommands only.
            import_custom_modules(custom)
        with contextlib.redirect_stderr(said), quiet_lightning():
            return build_lightning_cli(["--config", str(path)], run=False)
    except SystemExit as error:
        reason = _plainly(said.getvalue().partition("error:")[2])
        raise ValueError(f"{path} is not a valid TerraTorch config: {reason}") from error
    except Exception as error:
        # Whatever a task, datamodule or trainer raises is about the config.
        weights = f" with the checkpoint {checkpoint}" if checkpoint is not None else ""
        raise ValueError(
            f"TerraTorch cannot build the task of {path}{weights}: {_plainly(str(error))}"
        ) from error


def _plainly(said: str) -> str:
    return one_line(ValueError(_OR_NONE.sub(r"\1", said)))
