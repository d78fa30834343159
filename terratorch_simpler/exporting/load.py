"""``simpler.load``: the task of a checkpoint, whatever its class."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from terratorch_simpler.exporting.checkpoint import SavedTask, read_checkpoint, task_class
from terratorch_simpler.messages import one_line
from terratorch_simpler.results.blocks import keep_spec

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

    from terratorch_simpler.backbones.pruned import PrunedBackbone

OF_PLAN = ("backbone_plan", "backbone_calibration")
"""Arguments that say how deep, beside the blocks themselves."""


def load(checkpoint: str | Path, *, task: type[LightningModule] | None = None) -> LightningModule:
    """The task of a checkpoint, in evaluation mode on the CPU.

    Nothing is downloaded: the model is built without pre-trained weights, which those of the
    checkpoint replace. Nothing in the file is run: it is read as weights and plain data.

    Args:
        checkpoint: What a Lightning trainer saved of a TerraTorch task, pruned or full.
        task: Class of the task, where the checkpoint does not say it: one that was trained in
            Python without :class:`~terratorch_simpler.SimplerCallback`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such checkpoint, its class cannot be told, or its weights do not
            fit the model that it says.
    """
    return build_saved(read_checkpoint(checkpoint), task)


def build_saved(saved: SavedTask, task: type[LightningModule] | None = None) -> LightningModule:
    """As :func:`load`, of a checkpoint that was read."""
    cls = task_class(saved, task)
    module = build_bare(cls, saved.arguments, str(saved.path))
    try:
        module.load_state_dict(dict(saved.state_dict))
    except RuntimeError as error:
        raise ValueError(
            f"the weights in {saved.path} do not fit the model that it says: "
            f"{one_line(error, most=400)}"
        ) from error
    return module.eval()


def build_bare(
    cls: type[LightningModule], arguments: Mapping[str, Any], where: str
) -> LightningModule:
    """A task without pre-trained weights, from the arguments of its class.

    Raises:
        ValueError: If it cannot be built.
    """
    from terratorch_simpler.lightning import quiet_lightning

    taken = inspect.signature(cls).parameters
    # In Python, Lightning stores what a class hands on to its parent as well.
    given = {key: value for key, value in arguments.items() if key in taken}
    given["model_args"] = bare_model_args(arguments["model_args"])
    try:
        with quiet_lightning():
            built: LightningModule = cls(**given)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{cls.__name__} of {where} cannot be built: {one_line(error)}") from error
    return built


def bare_model_args(model_args: Mapping[str, Any]) -> dict[str, Any]:
    """The ``model_args`` that build the same model without weights, plan and tiles."""
    from terratorch_simpler.backbones.build import check_name, without_weights
    from terratorch_simpler.task.build import backbone_arguments

    given = dict(model_args)
    if given.get("backbone_keep_blocks") is not None:
        given = {key: value for key, value in given.items() if key not in OF_PLAN}
    if not isinstance(given.get("backbone"), str):
        return given
    own = backbone_arguments(given)
    rest = {key: value for key, value in given.items() if key not in _prefixed(own)}
    # PrithviModelFactory has it without the prefix.
    rest |= {"pretrained": False} if "pretrained" in rest else {}
    name = full_name(given)
    check_name(name)
    bare = without_weights(name, own)
    return rest | _prefixed(bare)


def resolved_model_args(model_args: Mapping[str, Any], pruned: PrunedBackbone) -> dict[str, Any]:
    """The ``model_args`` with the blocks that are kept in the place of plan and tiles."""
    resolved = {key: value for key, value in model_args.items() if key not in OF_PLAN}
    return resolved | {"backbone_keep_blocks": keep_spec(pruned.kept_blocks)}


def _prefixed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A backbone's arguments as a model factory takes them."""
    return {f"backbone_{key}": value for key, value in arguments.items()}


def full_name(model_args: Mapping[str, Any]) -> str:
    """Name of the full backbone that ``model_args`` name."""
    from terratorch_simpler.backbones.build import canonical_name
    from terratorch_simpler.results.plan import SOURCE

    return canonical_name(str(model_args["backbone"]).removeprefix(f"{SOURCE}_"))
