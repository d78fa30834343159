"""What is profiled: a backbone alone or in the model of a task, at any depth."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from terratorch_simpler.backbones.backbone import Backbone, load_backbone
from terratorch_simpler.backbones.families import class_paths, find_family, is_known
from terratorch_simpler.profiling.runs import Example
from terratorch_simpler.pruning import prune_backbone, with_module
from terratorch_simpler.tiles.batches import Tiles, by_frame
from terratorch_simpler.tiles.checks import check_finite, check_images

TASK_MODEL = "terratorch.models.model.Model"
DETECTION_MODEL = "terratorch.models.object_detection_model_factory.ObjectDetectionModel"


@dataclass(frozen=True)
class ProfiledModel:
    """A full backbone, and the model of a task around it if there is one.

    Attributes:
        label: What to call it.
        backbone: The full backbone.
        model: The task's model.
        place: Dotted name of the backbone in the model.
    """

    label: str
    backbone: Backbone
    model: nn.Module | None = None
    place: str = ""

    @property
    def whole(self) -> nn.Module:
        """All of it at full depth."""
        return self._around(self.backbone.module)

    def pruned(self, depth: int) -> nn.Module:
        """All of it with the first blocks only.

        The weights are shared, and there is one model of a task: the one given last is in use.
        """
        kept = list(range(depth))
        return self._around(prune_backbone(self.backbone, kept))

    def apart(self, depth: int) -> nn.Module:
        """As :meth:`pruned`, but a model of its own, beside which others can be in use."""
        backbone = prune_backbone(self.backbone, list(range(depth)))
        if self.model is None:
            return backbone
        return with_module(self.model, self.place, backbone)

    def _around(self, backbone: nn.Module) -> nn.Module:
        if self.model is None:
            return backbone
        self.model.set_submodule(self.place, backbone)
        return self.model

    @contextlib.contextmanager
    def lent_to(self, device: torch.device, dtype: torch.dtype | None = None) -> Iterator[None]:
        """Have it on a device; afterwards it is as it was, but for the weights' values.

        Args:
            device: Where.
            dtype: What to store its numbers in meanwhile; None for what they are.

        Raises:
            ValueError: If it does not fit into the device's memory.
        """
        modules, weights = list(self.whole.modules()), list(self.whole.parameters())
        modes, gradients = [module.training for module in modules], [w.grad for w in weights]
        # Batch norms change theirs when they are trained.
        buffers = [buffer.clone() for buffer in self.whole.buffers()]
        home = weights[0].device
        for weight in weights:
            weight.grad = None
        values = [weight.data for weight in weights] if dtype is not None else []
        held = [dict(module._buffers) for module in modules] if dtype is not None else []
        try:
            self._move(device, dtype)
            yield
        finally:
            # What was rounded does not come back by turning it into what it was.
            for weight, value in zip(weights, values, strict=False):
                weight.data = value
            for module, stored in zip(modules, held, strict=False):
                module._buffers.update(stored)
            self.whole.to(home)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            with torch.no_grad():
                for buffer, value in zip(self.whole.buffers(), buffers, strict=True):
                    buffer.copy_(value)
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode

    def _move(self, device: torch.device, dtype: torch.dtype | None) -> None:
        try:
            self.whole.to(device=device, dtype=dtype)
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"{self.label} does not fit into the memory of {device}: free some of it, or take "
                "the CPU (accelerator cpu)"
            ) from error

    def check(self, example: Example) -> None:
        """Refuse a batch that the backbone cannot read.

        Raises:
            ValueError: As :func:`terratorch_simpler.tiles.checks.check_images`, or if it holds NaN
                or infinity.
        """
        tiles = Tiles(*example, None)
        if self.backbone.by_frame:
            tiles = by_frame(tiles)
        check_images(tiles.image, self.backbone, tiles.inputs)
        check_finite(tiles.image, tiles.names)


def profiled_model(
    backbone: str | nn.Module, blocks: str | None = None, **arguments: Any
) -> ProfiledModel:
    """Take a backbone by its name or as a module, or the model of a TerraTorch task.

    Raises:
        ValueError: As :func:`load_backbone`.
        FileNotFoundError: If a checkpoint does not exist.
    """
    if isinstance(backbone, nn.Module) and TASK_MODEL in class_paths(backbone):
        if arguments:
            raise ValueError(f"arguments {sorted(arguments)} only go with a name, not a model")
        return profiled_task_model(backbone, blocks)
    found = load_backbone(backbone, blocks=blocks, **arguments)
    return ProfiledModel(found.label, found)


def backbone_place(model: nn.Module) -> str:
    """Dotted name of the backbone in the model of a task, with any wrapper around it."""
    return "torchvision_model.backbone.backbone" if detects(model) else "encoder"


def detects(model: nn.Module) -> bool:
    """Whether a task's model detects objects."""
    return DETECTION_MODEL in class_paths(model)


def profiled_task_model(
    model: nn.Module,
    blocks: str | None,
    name: str | None = None,
    arguments: dict[str, Any] | None = None,
) -> ProfiledModel:
    """Take the model of a task: its backbone can be hidden by a temporal wrapper or LoRA.

    Of a model that detects objects only backbone and necks are taken: what follows depends on what
    is found in the images, and does not train without boxes.

    Args:
        model: What ``EncoderDecoderFactory`` or ``ObjectDetectionModelFactory`` builds.
        blocks: Dotted name of the backbone's list of blocks, where no rule finds it.
        name: The backbone's registry name, if it is known.
        arguments: What the registry built it with.

    Raises:
        ValueError: If the backbone cannot be cut.
    """
    whole, around = backbone_place(model), ""
    if detects(model):
        owner, whole = whole.rsplit(".", 1)
        model, around = model.get_submodule(owner), " with its necks"
    layers = dict(model.get_submodule(whole).named_modules(prefix=whole))
    place = next((path for path, layer in layers.items() if is_known(layer)), whole)
    wrapped = any(type(layer).__name__ == "TemporalWrapper" for layer in layers.values())
    module = layers[place]
    backbone = Backbone(
        module, *find_family(module, blocks, name), name, arguments or {}, by_frame=wrapped
    )
    return ProfiledModel(f"{backbone.label}{around}", backbone, model, place)
