"""What is said of a model that is exported: what it expects and gives, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from terratorch_simpler.exporting.card import Parent
from terratorch_simpler.exporting.checkpoint import SavedTask
from terratorch_simpler.exporting.load import full_name
from terratorch_simpler.messages import one_line
from terratorch_simpler.results.deployment import (
    Deployment,
    ModelInput,
    ModelOutput,
    ModelRecord,
    Task,
)
from terratorch_simpler.task.preprocessing import IMAGE

if TYPE_CHECKING:
    from terratorch_simpler.backbones.families import Family, Images
    from terratorch_simpler.backbones.pruned import PrunedBackbone


def describe(
    saved: SavedTask,
    task: Any,
    pruned: PrunedBackbone | None,
    kind: Task,
    image: Images,
    stated: Mapping[str, Any],
) -> Deployment:
    """What a task's model expects and gives.

    Args:
        saved: The checkpoint.
        task: The task.
        pruned: Its pruned backbone; None for a full one.
        kind: What it does.
        image: A tile as the model reads it.
        stated: How pixels become that, as :func:`preprocessing_of` says.
    """
    from terratorch_simpler.profiling.bench import image_shapes

    images = image if isinstance(image, Mapping) else {IMAGE: image}
    known = stated.get("inputs") or {}
    try:
        with torch.no_grad():
            output: Tensor = task.model(image).output
    except Exception as error:
        # It raises whatever backbone, necks and decoder do.
        raise ValueError(
            f"the model of {saved.path} does not run on a tile of {image_shapes((image, {}))}: "
            f"{one_line(error)}"
        ) from error
    channels = 1 if kind == "regression" or output.ndim == 3 else output.shape[1]
    classes = saved.arguments.get("class_names")
    model = None
    if pruned is not None:
        model = ModelRecord(
            name=full_name(saved.model_args),
            kept_blocks=tuple(pruned.kept_blocks),
            full_depth=pruned.full_depth,
        )
    return Deployment(
        task=kind,
        inputs=tuple(_input(key, value, known.get(key) or {}) for key, value in images.items()),
        no_data=None,
        no_data_replace=stated.get("no_data_replace"),
        output=ModelOutput(
            name="output", classes=tuple(classes) if classes else None, channels=channels
        ),
        dynamic_size=False,
        model=model,
        trained=saved.trained,
        made_by={name: version(name) for name in ("terratorch-simpler", "terratorch", "torch")},
    )


def _input(name: str, image: Tensor, known: Mapping[str, Any]) -> ModelInput:
    channels = image.shape[1]

    def fitting(what: str) -> tuple[Any, ...] | None:
        values = known.get(what)
        return tuple(values) if values is not None and len(values) == channels else None

    means, stds = fitting("means"), fitting("stds")
    both = means is not None and stds is not None
    return ModelInput(
        name=name,
        bands=fitting("bands"),
        channels=channels,
        frames=image.shape[2] if image.ndim == 5 else None,
        height=image.shape[-2],
        width=image.shape[-1],
        means=means if both else None,
        stds=stds if both else None,
    )


def parent_of(saved: SavedTask, family: Family[Any]) -> Parent:
    """The weights that a model was fine-tuned from, as far as its arguments say."""
    from terratorch_simpler.backbones.checkpoints import find_checkpoint, reads_weights
    from terratorch_simpler.task.build import backbone_arguments

    own = backbone_arguments(saved.model_args)
    if not reads_weights(family, own):
        return Parent()
    file = find_checkpoint(family, own)
    if file is not None:
        return Parent(file=Path(str(file.file)).name)
    origin = family.origin(full_name(saved.model_args))
    return Parent(origin.repository, origin.licence) if origin is not None else Parent()
