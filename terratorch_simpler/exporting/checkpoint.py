"""What a checkpoint of a TerraTorch task holds, read without running anything in it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from terratorch_simpler.messages import one_line
from terratorch_simpler.results.plan import PruningPlan

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule
    from torch import Tensor

NOTE = "terratorch_simpler"
"""Key under which :class:`~terratorch_simpler.SimplerCallback` leaves a note in a checkpoint."""
NOTE_VERSION = 1
PLAIN_ALONE = (
    "they could run code, so distrust a file that is not yours; of your own task, give it numbers, "
    "texts and lists as arguments and train again"
)
_CALLBACK = "SimplerCallback"


@dataclass(frozen=True)
class SavedTask:
    """What a checkpoint holds of a task.

    Attributes:
        path: What it comes from, for messages: the checkpoint, or the config that was built.
        file: The checkpoint.
        hyper_parameters: Arguments of the task's class.
        state_dict: Its weights, by name.
        note: What the callback of this package left there; empty where it did not run.
        plan: The plan that chose the blocks, where one did.
        trained: Whether it was trained; False for what a config was built to.
    """

    path: Path
    file: Path
    hyper_parameters: Mapping[str, Any]
    state_dict: Mapping[str, Tensor]
    note: Mapping[str, Any]
    plan: PruningPlan | None
    trained: bool = True

    @property
    def kind(self) -> str:
        """What it comes from, in a word."""
        return "checkpoint" if self.trained else "config"

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the task's class, without those that Lightning keeps for itself."""
        return {k: v for k, v in self.hyper_parameters.items() if not k.startswith("_")}

    @property
    def model_args(self) -> dict[str, Any]:
        """What the model factory takes."""
        return dict(self.hyper_parameters.get("model_args") or {})

    @property
    def class_path(self) -> str | None:
        """Path of the task's class, where the checkpoint says it."""
        return self.hyper_parameters.get("_class_path") or self.note.get("task")


def read_checkpoint(path: str | Path) -> SavedTask:
    """Read a checkpoint that a Lightning trainer saved of a TerraTorch task.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, holds something else, would run code when it is loaded, or
            was made by a newer version.
    """
    path = Path(path)
    if not path.is_file():
        what = ", which is a folder: name a file in it" if path.is_dir() else ""
        raise FileNotFoundError(f"no checkpoint at {path}{what}")
    content = _content(path)
    note = content.get(NOTE) or {}
    version = note.get("version", NOTE_VERSION)
    if not isinstance(version, int) or version > NOTE_VERSION:
        raise ValueError(
            f"{path} has a note of version {version} of this package, this version reads up to "
            f"{NOTE_VERSION}: upgrade terratorch-simpler"
        )
    state = (content.get("callbacks") or {}).get(_CALLBACK) or {}
    plan = PruningPlan.model_validate(state["plan"]) if state.get("plan") else None
    arguments = plain_values(content["hyper_parameters"])
    return SavedTask(path, path, arguments, content["state_dict"], note, plan)


def plain_values(value: Any) -> Any:
    """Arguments as a text file can hold them: members of enums by their values, paths as text."""
    if isinstance(value, Mapping):
        return {key: plain_values(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(one) for one in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, PurePath) else value


def task_class(saved: SavedTask, task: type[LightningModule] | None = None) -> type[Any]:
    """The class of a checkpoint's task.

    Args:
        saved: The checkpoint.
        task: The class, where the user names it.

    Raises:
        ValueError: If it cannot be told, or is no task.
    """
    if task is not None:
        return task
    if saved.class_path is None:
        return _class_by_arguments(saved)
    return import_task(saved.class_path, saved.path)


def import_task(class_path: str, where: str | Path) -> type[Any]:
    """The class of a task by its path.

    Args:
        class_path: The path.
        where: What names it, for messages.

    Raises:
        ValueError: If it cannot be imported, or is no task.
    """
    from lightning.pytorch import LightningModule

    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{where} holds a {class_path}, which cannot be imported ({one_line(error)}): install "
            "what it belongs to, or name its class with task="
        ) from error
    if not (isinstance(found, type) and issubclass(found, LightningModule)):
        raise ValueError(f"{where} names {class_path} as its task, which is no LightningModule")
    return found


def _class_by_arguments(saved: SavedTask) -> type[Any]:
    """The task of TerraTorch that takes most of these arguments: in Python none is stored."""
    given = set(saved.arguments)
    fitting = [one for one in _tasks() if _parameters(one) <= given]
    most = max((len(_parameters(one)) for one in fitting), default=0)
    fitting = [one for one in fitting if len(_parameters(one)) == most]
    # Classification and multi-label classification take the same.
    if len(fitting) == 1:
        return fitting[0]
    which = " or ".join(one.__name__ for one in fitting) or "none of TerraTorch's"
    raise ValueError(
        f"{saved.path} does not say which task it is of: its arguments are those of {which}. "
        "Name the class: terratorch_simpler.load(CHECKPOINT, task=...), or put SimplerCallback "
        "into the trainer's callbacks, which writes it down"
    )


def _tasks() -> Iterator[type[Any]]:
    import terratorch.tasks as tasks
    from lightning.pytorch import LightningModule

    for one in vars(tasks).values():
        if isinstance(one, type) and issubclass(one, LightningModule):
            yield one


def _parameters(task: type[Any]) -> set[str]:
    return set(inspect.signature(task).parameters)


def _content(path: Path) -> Mapping[str, Any]:
    """The file's content, with tensors and plain data alone."""
    import torch

    from terratorch_simpler.backbones.checkpoints import why_unreadable

    try:
        with torch.serialization.safe_globals(_harmless()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:
        # A file that torch did not write, or not to its end, raises all kinds of things.
        why = why_unreadable(path, error, PLAIN_ALONE)
        raise ValueError(f"the checkpoint {path} {why}") from error
    if not isinstance(content, Mapping) or "state_dict" not in content:
        raise ValueError(
            f"{path} is no checkpoint of a Lightning trainer: it holds no state_dict. Weights of a "
            "backbone alone can be pruned with terratorch_simpler.prune"
        )
    if "model_args" not in (content.get("hyper_parameters") or {}):
        raise ValueError(
            f"{path} does not say how its model is built (no model_args in hyper_parameters): give "
            "the checkpoint that the trainer saved, not the weights alone"
        )
    return content


def _harmless() -> list[Any]:
    """Classes of plain data that tasks made in Python are known to store."""
    from pathlib import PosixPath, PurePosixPath

    from lightning.fabric.utilities.data import AttributeDict
    from terratorch.datasets import utils

    bands = [one for name, one in vars(utils).items() if isinstance(one, type) and "Bands" in name]
    return [AttributeDict, PosixPath, PurePosixPath, *bands]
