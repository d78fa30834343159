"""Labels: what a task's are, and how those of a batch are read as targets of the token grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

Kind = Literal["segmentation", "regression", "classification", "multilabel"]

KINDS: dict[str, Kind] = {
    "SemanticSegmentationTask": "segmentation",
    "PixelwiseRegressionTask": "regression",
    "MultiLabelClassificationTask": "multilabel",
    "ClassificationTask": "classification",
}
"""TerraTorch's tasks with labels that a probe reads, by the name of their class."""


@dataclass(frozen=True)
class Labels:
    """What the labels of the tiles are.

    Attributes:
        kind: ``segmentation`` (a class a pixel), ``regression`` (a number a pixel),
            ``classification`` (a class a tile) or ``multilabel`` (0 or 1 for each class a tile).
        num_classes: Number of classes, for segmentation.
        ignore_index: Label of pixels or tiles that count for nothing.
    """

    kind: Kind
    num_classes: int | None = None
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"task must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if self.kind == "segmentation" and (self.num_classes is None or self.num_classes < 2):
            raise ValueError(f"segmentation needs num_classes, at least 2: got {self.num_classes}")

    @property
    def is_dense(self) -> bool:
        """Whether each pixel has a label of its own."""
        return self.kind in ("segmentation", "regression")

    @property
    def key(self) -> str:
        """Where a batch holds them, in TerraTorch's words."""
        return "mask" if self.is_dense else "label"

    def counts(self, values: Tensor) -> Tensor:
        """Which of these labels count: not the one to ignore, and no NaN."""
        valid = ~values.isnan()
        return valid if self.ignore_index is None else valid & (values != self.ignore_index)

    def of(self, batch: object, tiles: int) -> Tensor:
        """The labels of a batch.

        Args:
            batch: A dict with ``image`` and ``mask`` or ``label``.
            tiles: How many tiles it has.

        Returns:
            On the CPU: [tiles, H, W] for dense tasks, [tiles] for classes, [tiles, classes] for
            several classes a tile; int64, or float64 for regression.

        Raises:
            ValueError: If there are none, or they are not one a tile or of another shape.
        """
        found = batch.get(self.key) if isinstance(batch, Mapping) else None
        if not isinstance(found, Tensor):
            held = f"keys {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else batch
            what = held if isinstance(held, str) else type(batch).__name__
            raise ValueError(
                f"a batch holds no '{self.key}' tensor to probe with ({what}): give labelled tiles "
                f"as dicts with 'image' and '{self.key}'"
            )
        labels = found.detach().cpu()
        rank = {"classification": 1, "multilabel": 2}.get(self.kind, 3)
        if labels.ndim == rank + 1 and labels.shape[1] == 1:
            labels = labels.squeeze(1)
        if labels.ndim != rank or len(labels) != tiles:
            raise ValueError(
                f"the '{self.key}' of a batch of {tiles} tiles has shape {list(found.shape)}: "
                f"{self.kind} needs {_shape(self.kind)}"
            )
        if self.kind == "regression":
            return labels.double()
        if labels.is_floating_point() and not torch.equal(labels, labels.round()):
            raise ValueError(
                f"the '{self.key}' of a batch holds numbers like {_odd(labels)}, {self.kind} needs "
                "whole ones: name the classes by index"
            )
        return labels.long()


def _shape(kind: Kind) -> str:
    dense = "[tiles, height, width]"
    return {"classification": "[tiles]", "multilabel": "[tiles, classes]"}.get(kind, dense)


def _odd(labels: Tensor) -> float:
    return float(labels[labels != labels.round()][0])


def labels_of_task(task: LightningModule) -> Labels | None:
    """What the labels of a TerraTorch task are; None if it has none that a probe reads.

    Args:
        task: A task, whose ``hparams`` hold ``ignore_index`` and ``model_args``.
    """
    names = [cls.__name__ for cls in type(task).__mro__]
    kind = next((KINDS[name] for name in names if name in KINDS), None)
    if kind is None:
        return None
    classes = task.hparams["model_args"].get("num_classes")
    return Labels(kind, classes, task.hparams.get("ignore_index"))


@dataclass(frozen=True)
class Cells:
    """Labels of a batch by token: what the pixels under each sum up to. All float64, on the CPU.

    Attributes:
        pixels: Labelled pixels, [tiles, cells].
        sums: Sum of their targets, [tiles, cells, targets]: counts of each class, or the sum of
            the values.
        squares: Sum of their squared targets, [tiles, cells]. A class is a target of 0 or 1, so
            that it is the number of pixels for segmentation.
    """

    pixels: Tensor
    sums: Tensor
    squares: Tensor

    def less(self, value: float) -> Cells:
        """The same of labels that are less by a value; for one target."""
        sums = self.sums - value * self.pixels[..., None]
        squares = self.squares - 2 * value * self.sums[..., 0] + value**2 * self.pixels
        return Cells(self.pixels, sums, squares)


def cells_of(mask: Tensor, grid: tuple[int, int], labels: Labels) -> Cells:
    """Sum the labels of a batch over the cells of the token grid.

    Args:
        mask: As :meth:`Labels.of` gives them.
        grid: Rows and columns of tokens.
        labels: What they are.

    Raises:
        ValueError: If the mask cannot be cut into the grid, or holds a class that does not exist.
    """
    (rows, columns), (height, width) = grid, mask.shape[-2:]
    if height % rows or width % columns:
        raise ValueError(
            f"labels of {height} x {width} px cannot be cut into the {rows} x {columns} tokens of "
            "their tile: make the labels as large as the image"
        )
    by_cell = mask.reshape(len(mask), rows, height // rows, columns, width // columns)
    values = by_cell.permute(0, 1, 3, 2, 4).flatten(3).flatten(1, 2)
    # TerraTorch's metrics leave NaN out as well.
    valid = labels.counts(values)
    if labels.kind == "regression":
        values = torch.where(valid, values, 0.0)
        if not values.isfinite().all():
            raise ValueError(
                "the labels hold infinity: replace it with the ignore_index of the task"
            )
        pixels = valid.sum(-1).double()
        return Cells(pixels, values.sum(-1, keepdim=True), values.square().sum(-1))
    classes = labels.num_classes
    assert classes is not None
    wrong = values[valid & ((values < 0) | (values >= classes))]
    if len(wrong):
        raise ValueError(
            f"the labels hold class {int(wrong[0])}, but num_classes is {classes} (0 to "
            f"{classes - 1}) and ignore_index {labels.ignore_index}: set them to fit the labels"
        )
    place = torch.arange(values[..., 0].numel()).reshape(*values.shape[:2], 1) * classes + values
    counts = torch.bincount(place[valid], minlength=values[..., 0].numel() * classes)
    sums = counts.reshape(*values.shape[:2], classes).double()
    pixels = sums.sum(-1)
    return Cells(pixels, sums, pixels)
