"""What is exported: a task with its weights, and a tile of it to try it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from terratorch_simpler.backbones.pruned import find_pruned
from terratorch_simpler.exporting.card import Parent
from terratorch_simpler.exporting.checkpoint import SavedTask
from terratorch_simpler.exporting.describe import describe, parent_of
from terratorch_simpler.exporting.load import bare_model_args, build_saved
from terratorch_simpler.exporting.merge import PEFT, merged
from terratorch_simpler.exporting.tile import build_data, data_of, random_tile, real_tile
from terratorch_simpler.results.deployment import Deployment, Task
from terratorch_simpler.task.preprocessing import preprocessing_of

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule

    from terratorch_simpler.backbones.backbone import Backbone
    from terratorch_simpler.backbones.families import Images
    from terratorch_simpler.backbones.pruned import PrunedBackbone

KINDS: dict[str, Task] = {
    "SemanticSegmentationTask": "segmentation",
    "PixelwiseRegressionTask": "regression",
    "ClassificationTask": "classification",
    "MultiLabelClassificationTask": "multilabel",
}
"""Tasks of TerraTorch that can be exported, by class."""


@dataclass(frozen=True)
class Source:
    """A trained task on its way out.

    Attributes:
        saved: The checkpoint that it comes from.
        task: The task, in evaluation mode.
        pruned: Its pruned backbone; None for a full one.
        data: The ``data`` section of its config; None without one.
        datamodule: The same, built.
        image: One tile, or one of each modality, as the model reads it: [1, C, H, W] or
            [1, C, T, H, W].
        tile: What the tile is, in words.
        deployment: What the model expects and gives.
        parent: What it was fine-tuned from.
    """

    saved: SavedTask
    task: LightningModule
    pruned: PrunedBackbone | None
    data: Mapping[str, Any] | None
    datamodule: LightningDataModule | None
    image: Images
    tile: str
    deployment: Deployment
    parent: Parent

    @property
    def model(self) -> Any:
        """The task's model."""
        return self.task.model

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the task's class, with no weights to load."""
        return {**self.saved.arguments, "model_args": bare_model_args(self.saved.model_args)}

    @property
    def inputs(self) -> list[Tensor]:
        """The tile as a list of tensors, one an input."""
        return [*self.image.values()] if isinstance(self.image, Mapping) else [self.image]

    @property
    def names(self) -> list[str] | None:
        """Names of its modalities; None where there are none."""
        return [*self.image] if isinstance(self.image, Mapping) else None

    def of_other_size(self) -> Source:
        """The same with a tile of twice the height and width."""

        def doubled(image: Tensor) -> Tensor:
            return image.repeat_interleave(2, -1).repeat_interleave(2, -2)

        image = self.image
        if isinstance(image, Mapping):
            return replace(self, image={name: doubled(one) for name, one in image.items()})
        return replace(self, image=doubled(image))


class Forward(nn.Module):
    """A task's model with tensors in and one tensor out.

    Args:
        model: The model.
        names: Names of its modalities in order; None where it reads one tensor.
        dtype: What it computes in.
    """

    def __init__(
        self, model: nn.Module, names: list[str] | None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.model, self.names, self.dtype = model, names, dtype

    def forward(self, *images: Tensor) -> Tensor:
        """Run the model on images of [B, C, H, W] or [B, C, T, H, W]."""
        cast = [image.to(self.dtype) for image in images]
        given = cast[0] if self.names is None else dict(zip(self.names, cast, strict=True))
        output: Tensor = self.model(given).output
        return output.float()


def read_source(saved: SavedTask, config: Path | None, merge: bool, size: int | None) -> Source:
    """Build the task of a checkpoint and take a tile to try it on.

    Args:
        saved: The checkpoint.
        config: The task's config, for its data; None to go without.
        merge: Write LoRA's adapters into the weights.
        size: Height and width of the tile, where there is no config.

    Raises:
        ValueError: If it cannot be exported, with the reason.
    """
    task = build_saved(saved)
    kind = next((KINDS[c.__name__] for c in type(task).__mro__ if c.__name__ in KINDS), None)
    if kind is None:
        raise ValueError(
            f"{saved.path} holds a {type(task).__name__}: {', '.join(KINDS)} can be exported"
        )
    if saved.model_args.get(PEFT) is not None:
        saved = merged(saved, task, merge)
    pruned = find_pruned(task)
    backbone = _backbone(task, pruned)
    if backbone.family.generates:
        raise ValueError(
            f"{backbone.family.name} draws random numbers when it runs, so that no export can be "
            "held against it: export a backbone without thinking in modalities"
        )
    from terratorch_simpler.profiling.profiled import ProfiledModel

    data, datamodule = None, None
    if config is None:
        image, tile = random_tile(backbone, size), "random numbers"
        stated = saved.note.get("preprocessing") or {}
    else:
        data = data_of(config)
        datamodule = build_data(saved, task, data, config)
        image, tile = real_tile(backbone, datamodule), "a tile of the config"
        stated = preprocessing_of(datamodule, saved.model_args)
    ProfiledModel(backbone.label, backbone).check((image, {}))
    deployment = describe(saved, task, pruned, kind, image, stated)
    parent = parent_of(saved, backbone.family)
    return Source(saved, task, pruned, data, datamodule, image, tile, deployment, parent)


def _backbone(task: Any, pruned: PrunedBackbone | None) -> Backbone:
    from terratorch_simpler.backbones.backbone import Backbone
    from terratorch_simpler.backbones.families import STRUCTURE, find_family, is_known
    from terratorch_simpler.profiling.profiled import backbone_place

    by_frame = bool(task.hparams["model_args"].get("backbone_use_temporal"))
    if pruned is not None:
        # Its tiles are asked for, and not its blocks.
        return Backbone(pruned, pruned._family(), "", by_frame=by_frame)
    full: nn.Module = task.model.get_submodule(backbone_place(task.model))
    inner = next((part for part in full.modules() if is_known(part)), full)
    try:
        family, _ = find_family(inner)
    except ValueError:
        # Nothing is cut, so that a backbone that cannot be will do as well.
        family = STRUCTURE
    return Backbone(inner, family, "", by_frame=by_frame)
