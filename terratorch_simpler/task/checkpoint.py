"""The backbone of a checkpoint, which LightningCLI runs whatever the config asks for."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from terratorch_simpler.backbones.build import canonical_name
from terratorch_simpler.results.blocks import block_ranges, keep_spec
from terratorch_simpler.results.plan import SOURCE, PruningPlan

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.cli import SaveConfigCallback

    from terratorch_simpler.backbones.pruned import PrunedBackbone

Kept = int | list[int] | Literal["all"]


@dataclass(frozen=True)
class NamedBackbone:
    """A backbone by its name, and how deep it is.

    Attributes:
        name: Its name in TerraTorch's registry.
        kept: Number of first blocks that are kept, list of others, or ``all``.
        total: Blocks of the full backbone, if it is there to count them.
    """

    name: str
    kept: Kept
    total: int | None = None

    @classmethod
    def of(cls, name: str, kept: Kept, total: int | None) -> NamedBackbone:
        """One whose depth is written as any other of the same blocks."""
        if isinstance(kept, list):
            kept = keep_spec(kept)
        return cls(name, "all" if kept == total else kept, total)

    def __str__(self) -> str:
        return f"{self.name}, {self.depth}"

    @property
    def full_name(self) -> str:
        """Name of the full backbone."""
        return canonical_name(self.name.removeprefix(f"{SOURCE}_"))

    @property
    def depth(self) -> str:
        """How deep it is, in words."""
        if self.kept == "all":
            return "all its blocks" if self.total is None else f"all {self.total} blocks"
        count = len(self.kept) if isinstance(self.kept, list) else self.kept
        which = f" ({block_ranges(self.kept)})" if isinstance(self.kept, list) else ""
        return f"{count} of {self.total} blocks{which}" if self.total else f"{count} blocks{which}"

    @property
    def lines(self) -> str:
        """What a config says to get it."""
        if self.kept == "all":
            return f"backbone: {self.full_name}"
        return f"backbone: {self.name}, backbone_keep_blocks: {self.kept}"


def running_backbone(module: LightningModule, pruned: PrunedBackbone | None) -> NamedBackbone:
    """The backbone that a task was built with: that of a checkpoint where LightningCLI got one.

    Args:
        module: The task.
        pruned: The pruned backbone in it, if there is one.
    """
    arguments = module.hparams.get("model_args")
    name = arguments.get("backbone") if isinstance(arguments, Mapping) else None
    if pruned is not None:
        name = name if isinstance(name, str) else type(pruned).__name__
        return NamedBackbone.of(name, pruned.kept_blocks, pruned.full_depth)
    name = name if isinstance(name, str) else type(module).__name__
    return NamedBackbone(name, "all", _count_blocks(module))


def asked_backbone(arguments: Mapping[str, Any], running: NamedBackbone) -> NamedBackbone | None:
    """The backbone that ``model_args`` ask for; None where only building it would tell.

    Args:
        arguments: The ``model_args`` of a config.
        running: The backbone that is run, whose blocks are counted.
    """
    name, kept = arguments.get("backbone"), arguments.get("backbone_keep_blocks")
    if not isinstance(name, str):
        return None
    total = running.total if NamedBackbone(name, "all").full_name == running.full_name else None
    if not name.startswith(f"{SOURCE}_"):
        return NamedBackbone(name, "all", total)
    if kept is None:
        kept = _planned(arguments.get("backbone_plan"))
    elif isinstance(kept, str):
        # jsonargparse reads no numbers in what the command line puts into a dict.
        kept = yaml.safe_load(kept)
    return None if kept is None else NamedBackbone.of(name, kept, total)


def check_checkpoint(
    trainer: Trainer, module: LightningModule, pruned: PrunedBackbone | None, stage: str
) -> None:
    """Refuse a checkpoint of another depth than the config and the command line ask for.

    Nothing is refused where there is no telling what they ask for, as in Python or with
    ``fast_dev_run``.

    Args:
        trainer: The trainer, which has not loaded the checkpoint yet.
        module: The task, as it was built.
        pruned: The pruned backbone in it, if there is one.
        stage: What is run, in Lightning's words.

    Raises:
        ValueError: With both depths, and the ways out.
    """
    saved = _saved_config(trainer)
    checkpoint = _named_checkpoint(saved)
    if saved is None or checkpoint is None:
        return
    running = running_backbone(module, pruned)
    asked = asked_backbone(_asked_arguments(saved), running)
    if asked is None or asked.kept == running.kept:
        return
    instead = (
        "leave out ckpt_path to train from the backbone's weights"
        if stage == "fit"
        else "give a checkpoint of the depth that is asked for"
    )
    raise ValueError(
        f"{_where(saved)} asks for {asked}, but the checkpoint {checkpoint} holds {running}, and "
        "Lightning runs what the checkpoint holds: use the config that it was made with, or one "
        f"that names the same depth ({running.lines}); or {instead}"
    )


def checkpoint_of(trainer: Trainer) -> str | None:
    """Path of the checkpoint that a run starts from, if it does.

    Lightning tells once it has loaded it; before, the command line does if it is a file.
    """
    if trainer.ckpt_path is not None:
        return str(trainer.ckpt_path)
    return _named_checkpoint(_saved_config(trainer))


def _saved_config(trainer: Trainer) -> SaveConfigCallback | None:
    """The callback by which LightningCLI keeps parser and config; in Python there is none."""
    from lightning.pytorch.cli import SaveConfigCallback

    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next((one for one in callbacks if isinstance(one, SaveConfigCallback)), None)


def _named_checkpoint(saved: SaveConfigCallback | None) -> str | None:
    """The file whose settings replaced those of the config; ``best`` and ``last`` replace none."""
    path = saved.config.get("ckpt_path") if saved is not None else None
    return str(path) if path and Path(path).is_file() else None


def _asked_arguments(saved: SaveConfigCallback) -> dict[str, Any]:
    """The ``model_args`` of config files and command line, before the checkpoint's replaced them.

    The command line is parsed once more: what LightningCLI made of it the first time is gone.
    """
    command = getattr(saved.parser, "args", None)
    if command is None:
        return {}
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            config = saved.parser.parse_args(command)
    except SystemExit:
        return {}
    arguments = config.get("model.init_args.model_args")
    return arguments if isinstance(arguments, dict) else {}


def _where(saved: SaveConfigCallback) -> str:
    """Config files, and the command line where it says something of the model."""
    places = [str(path) for path in saved.config.get("config") or []]
    if any(argument.startswith("--model") for argument in saved.parser.args):
        places.append("the command line")
    return " with ".join(places)


def _planned(plan: str | None) -> int | list[int] | None:
    """What a plan says, if it is there and can be read: nothing needs it once there is a depth."""
    if plan is None or not Path(plan).is_file():
        return None
    try:
        return PruningPlan.load(plan).spec
    except ValueError:
        return None


def _count_blocks(module: LightningModule) -> int | None:
    """Blocks of a task's full backbone, if a family knows where they are."""
    from terratorch_simpler.backbones.backbone import load_backbone
    from terratorch_simpler.profiling.profiled import backbone_place

    model: Any = getattr(module, "model", None)
    try:
        return load_backbone(model.get_submodule(backbone_place(model))).depth
    except (AttributeError, ValueError):
        return None
