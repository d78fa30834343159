"""The tile that an export is tried on: one of the task's own, or random numbers."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from terratorch_simpler.exporting.checkpoint import SavedTask
from terratorch_simpler.exporting.load import bare_model_args
from terratorch_simpler.messages import one_line

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule

    from terratorch_simpler.backbones.backbone import Backbone
    from terratorch_simpler.backbones.families import Images


def read_config(config: Path) -> dict[str, Any]:
    """The values of a config; empty where its YAML is no mapping.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not YAML.
    """
    if not config.is_file():
        raise FileNotFoundError(f"no config at {config}")
    try:
        values = yaml.safe_load(config.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{config} is not YAML: {one_line(error)}") from error
    return values if isinstance(values, dict) else {}


def data_of(config: Path) -> Mapping[str, Any]:
    """The ``data`` section of a config.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not YAML, or has no data.
    """
    data = read_config(config).get("data")
    if not isinstance(data, dict):
        raise ValueError(f"{config} has no data: name the task's config, or leave --config out")
    return data


def build_data(
    saved: SavedTask, task: LightningModule, data: Mapping[str, Any], config: Path
) -> LightningDataModule:
    """The datamodule of a config, as ``terratorch`` builds it.

    Raises:
        ValueError: If it cannot be built.
    """
    from terratorch.cli_tools import build_lightning_cli

    from terratorch_simpler.lightning import quiet_lightning
    from terratorch_simpler.task.build import plainly

    cls = type(task)
    # Its model is built with it, and thrown away: without weights it costs little.
    given: dict[str, Any] = {"model_args": bare_model_args(saved.model_args)}
    if "model_factory" in saved.arguments:
        given["model_factory"] = saved.arguments["model_factory"]
    model = {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": given}
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump({"data": dict(data), "model": model}))
        try:
            with contextlib.redirect_stderr(said), quiet_lightning():
                cli = build_lightning_cli(["--config", str(path)], run=False)
        except (SystemExit, Exception) as error:
            reason = said.getvalue().partition("error:")[2] or str(error)
            raise ValueError(f"the data of {config} cannot be built: {plainly(reason)}") from error
    datamodule: LightningDataModule = cli.datamodule
    return datamodule


def real_tile(backbone: Backbone, datamodule: LightningDataModule) -> Images:
    """A training tile, without augmentation, as the model reads it."""
    from terratorch_simpler.profiling.batch import first_batch
    from terratorch_simpler.profiling.profiled import ProfiledModel

    image: Images = first_batch(ProfiledModel(backbone.label, backbone), datamodule, 1)[0]
    return image


def random_tile(backbone: Backbone, size: int | None) -> Images:
    """Random numbers of the shape that the backbone reads; ``size`` is their side in pixels.

    Raises:
        ValueError: If the size does not fit the patches, or the number of frames is not known.
    """
    if backbone.by_frame:
        raise ValueError(
            f"{backbone.label} reads several frames, and how many only its data says: name the "
            "task's config"
        )
    from terratorch_simpler.profiling.batch import random_example
    from terratorch_simpler.profiling.profiled import ProfiledModel

    image: Images = random_example(ProfiledModel(backbone.label, backbone), 1, size)[0]
    return image
