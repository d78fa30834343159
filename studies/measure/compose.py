"""A task's config with a backbone in it: what `terratorch fit -c` takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import yaml

TASKS = Path(__file__).parents[1] / "tasks"
MODELS = TASKS.parent / "models.yaml"
CONTROL = "_random"
"""How the name of a model with random weights ends."""
SAME_TILES = {"flood_worldcover": "flood_water", "gewata_treecover": "gewata_landcover"}
"""Tasks on the tiles of another: what is chosen without labels is the same."""


@dataclass(frozen=True)
class Folders:
    """Where things lie.

    Attributes:
        sources: The data sets as they come.
        data: What ``studies.measure.data`` made of them.
        weights: Weights of backbones.
    """

    sources: Path
    data: Path
    weights: Path


def models() -> dict[str, dict[str, Any]]:
    """The entries of ``models.yaml``."""
    entries: dict[str, dict[str, Any]] = yaml.safe_load(MODELS.read_text())
    return entries


def tasks() -> list[str]:
    """Names of the tasks."""
    return sorted(path.stem for path in TASKS.glob("*.yaml"))


def metric_of(task: str) -> str:
    """Name of the accuracy that a task is judged by, as TerraTorch logs it."""
    return str(_task(task)["metric"])


def fits(task: str, model: str) -> bool:
    """Whether the model reads the bands of the task."""
    return bool(_task(task)["bands"] == models()[model]["bands"])


def pairs() -> Iterator[tuple[str, str]]:
    """All tasks with the models that read their bands."""
    for task in tasks():
        for model in models():
            if fits(task, model):
                yield task, model


def trained_pairs() -> list[tuple[str, str]]:
    """Those of them whose model has trained weights."""
    return [(task, model) for task, model in pairs() if not model.endswith(CONTROL)]


def compose(task: str, model: str, folders: Folders, *, seed: int = 0) -> dict[str, Any]:
    """The config of a task with a model at its full depth.

    Raises:
        FileNotFoundError: If there is no such task.
        ValueError: If there is no such model, or it reads other bands.
    """
    entries = _task(task)
    if model not in models():
        raise ValueError(f"no model {model}: there are {', '.join(models())}")
    if not fits(task, model):
        raise ValueError(f"{model} does not read the bands of {task}")
    places = {
        "sources": folders.sources,
        "data": folders.data,
        "weights": folders.weights,
        "samples": files("terratorch_simpler") / "samples",
        "studies": TASKS.parent,
        "size": entries["size"],
    }
    config = yaml.safe_load(Template(yaml.safe_dump(entries)).substitute(places))
    entry = yaml.safe_load(Template(MODELS.read_text()).substitute(places))[model]
    for key in ("bands", "metric", "size"):
        del config[key]
    arguments = config["model"]["init_args"]["model_args"]
    arguments.update(entry["model_args"])
    if entry.get("outputs") == "images":
        arguments["necks"] = [
            neck for neck in arguments["necks"] if neck["name"] != "ReshapeTokensToImage"
        ]
    for neck in arguments["necks"]:
        if neck["name"] == "SelectIndices":
            neck["indices"] = _indices(neck["indices"], entry["depth"])
    config["seed_everything"] = seed
    config["trainer"] = {"accelerator": "cpu", **config["trainer"]}
    return dict(config)


def _task(task: str) -> dict[str, Any]:
    """The entries of a task: those of the one that it is like, but for its own."""
    path = TASKS / f"{task}.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"no task {task}: there are {', '.join(tasks())}")
    entries: dict[str, Any] = yaml.safe_load(path.read_text())
    like = entries.pop("like", None)
    return entries if like is None else _task(like) | entries


def _indices(which: str, depth: int) -> list[int]:
    if which == "last":
        return [-1]
    return [depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
