"""A folder that plain TerraTorch loads: a config and a checkpoint, without this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from terratorch_simpler.exporting.formats.whole import write_whole
from terratorch_simpler.exporting.plain import plain_model
from terratorch_simpler.exporting.untrained import UNTRAINED
from terratorch_simpler.results.wording import decision_sentence

if TYPE_CHECKING:
    from terratorch_simpler.exporting.source import Source

CONFIG, CHECKPOINT = "config.yaml", "model.ckpt"


def write(source: Source, folder: Path) -> None:
    """Write ``config.yaml``, ``model.ckpt`` and what the model expects into a folder.

    Raises:
        ValueError: If no backbone of TerraTorch's registry is the pruned one.
    """
    arguments, weights = plain_task(source)
    values: dict[str, Any] = {}
    if source.data is not None:
        values["data"] = dict(source.data)
    values["model"] = {"class_path": class_path(source), "init_args": arguments}
    (folder / CONFIG).write_text(_comment(source) + yaml.safe_dump(values, sort_keys=False))
    parameters = {**arguments, "_class_path": class_path(source)}
    stored = {
        "state_dict": weights,
        "hyper_parameters": parameters,
        "pytorch-lightning_version": _lightning_version(),
    }
    write_whole(folder / CHECKPOINT, lambda file: torch.save(stored, file))
    (folder / "preprocessing.json").write_text(source.deployment.to_json())
    if source.saved.plan is not None:
        (folder / "plan.json").write_text(source.saved.plan.to_json())


def plain_task(source: Source) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Arguments of the task's class in TerraTorch's own words, and the task's weights for them."""
    plain = plain_model(source.arguments["model_args"], source.pruned)
    arguments = {**source.arguments, "model_args": plain.model_args}
    # What Lightning stores of a parent's arguments is none of the class.
    arguments.pop("task", None)
    kept = {key: value for key, value in arguments.items() if value is not None}
    return kept, plain.state_dict(source.task.state_dict())


def class_path(source: Source) -> str:
    """Path of the task's class, as configs name it."""
    cls = type(source.task)
    public = f"terratorch.tasks.{cls.__name__}"
    return (
        public
        if cls.__module__.startswith("terratorch.tasks.")
        else (f"{cls.__module__}.{cls.__qualname__}")
    )


def _comment(source: Source) -> str:
    """Where the model comes from, as comments."""
    lines = ["Weights: model.ckpt beside this file."]
    if not source.saved.trained:
        lines.append(UNTRAINED)
    if source.data is None:
        lines.append("Add the data of your task before you run it.")
    plan = source.saved.plan
    if plan is not None:
        lines.append(f"Depth, from plan.json: {decision_sentence(plan)}")
    elif source.pruned is not None:
        kept, total = len(source.pruned.kept_blocks), source.pruned.full_depth
        lines.append(f"Depth: {kept} of {total} blocks.")
    return "".join(f"# {line}\n" for line in lines)


def _lightning_version() -> str:
    from importlib.metadata import version

    return version("lightning")
