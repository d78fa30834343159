"""A config in the place of a checkpoint: the model with which ``terratorch fit`` would begin."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from terratorch_simpler.exporting.checkpoint import (
    NOTE,
    NOTE_VERSION,
    SavedTask,
    read_checkpoint,
)
from terratorch_simpler.exporting.formats.whole import write_whole
from terratorch_simpler.exporting.load import resolved_model_args
from terratorch_simpler.exporting.tile import read_config
from terratorch_simpler.messages import Reporter

SUFFIXES = (".yaml", ".yml")
"""What the name of a config ends in."""
UNTRAINED = (
    "Not trained: the backbone has the weights that the config names, the decoder and head are "
    "untrained (their initial values)."
)


def is_config(path: str | Path) -> bool:
    """Whether a path names a config, and no checkpoint."""
    return Path(path).suffix in SUFFIXES


@contextlib.contextmanager
def opened(path: Path, reporter: Reporter) -> Iterator[SavedTask]:
    """What is exported, as a checkpoint.

    Args:
        path: A checkpoint or a config.
        reporter: Is told that a config is built.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or the task of a config cannot be built.
    """
    if not is_config(path):
        yield read_checkpoint(path)
        return
    reporter.say("Building the task of the config, with its weights ...")
    with untrained(path) as saved:
        yield saved


@contextlib.contextmanager
def untrained(config: Path) -> Iterator[SavedTask]:
    """The task of a config, saved before anything is trained; its file goes at the end.

    Args:
        config: The config; a plan that it names is looked for beside it as well.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has no model, or the model cannot be built.
    """
    from terratorch_simpler.backbones.pruned import find_pruned

    task = _build(config)
    pruned = find_pruned(task)
    parameters = dict(task.hparams)
    if pruned is not None:
        parameters["model_args"] = resolved_model_args(parameters["model_args"], pruned)
    cls = type(task)
    content = {
        "state_dict": task.state_dict(),
        "hyper_parameters": parameters,
        NOTE: {"version": NOTE_VERSION, "task": f"{cls.__module__}.{cls.__qualname__}"},
    }
    with tempfile.TemporaryDirectory() as folder:
        import torch

        file = Path(folder) / "untrained.ckpt"
        write_whole(file, lambda stream: torch.save(content, stream))
        saved = read_checkpoint(file)
        plan = pruned.plan if pruned is not None else None
        del task
        yield replace(saved, path=config, file=file, plan=plan, trained=False)


def _build(config: Path) -> Any:
    """The task, with the weights that the config names."""
    from terratorch.cli_tools import build_lightning_cli

    from terratorch_simpler.lightning import quiet_lightning
    from terratorch_simpler.task.build import plainly

    values = read_config(config)
    model = values.get("model")
    arguments = model.get("init_args") if isinstance(model, dict) else None
    if not (isinstance(arguments, dict) and isinstance(arguments.get("model_args"), dict)):
        raise ValueError(
            f"{config} is no TerraTorch task config: it has no model.init_args.model_args"
        )
    arguments = {**arguments, "model_args": _with_plan(arguments["model_args"], config.parent)}
    # Data and trainer are left out: the one is built for the tile, the other is not needed.
    given: dict[str, Any] = {"model": {**values["model"], "init_args": arguments}}
    if "seed_everything" in values:
        given["seed_everything"] = values["seed_everything"]
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "config.yaml"
        copy.write_text(yaml.safe_dump(given))
        try:
            with contextlib.redirect_stderr(said), quiet_lightning():
                return build_lightning_cli(["--config", str(copy)], run=False).model
        except (SystemExit, Exception) as error:
            # Whatever a task raises is about the config.
            reason = said.getvalue().partition("error:")[2] or str(error)
            raise ValueError(
                f"TerraTorch cannot build the task of {config}: {plainly(reason)}"
            ) from error


def _with_plan(model_args: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same with the path of a plan that lies beside the config, and nowhere else."""
    plan = model_args.get("backbone_plan")
    if not isinstance(plan, str) or Path(plan).is_file() or not (folder / plan).is_file():
        return dict(model_args)
    return {**model_args, "backbone_plan": str(folder / plan)}
