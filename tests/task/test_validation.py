"""What is kept of the validation of a training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from terratorch_simpler.task.validation import TILES, Validation


class _Task(LightningModule):
    """Says one thing of every tile."""

    def __init__(self, said: Tensor, **settings: Any) -> None:
        super().__init__()
        bands = {"backbone_bands": ["BLUE", "GREEN", "RED"], "num_classes": 3}
        self.save_hyperparameters({"model_args": bands, **settings})
        self._said = said

    def forward(self, image: Tensor, **_: Any) -> Any:
        return SimpleNamespace(output=self._said.expand(len(image), *self._said.shape))


class SemanticSegmentationTask(_Task):
    pass


class PixelwiseRegressionTask(_Task):
    pass


class ClassificationTask(_Task):
    pass


class ReconstructionTask(_Task):
    pass


def kept(task: _Task, metric: str, *batches: dict[str, Tensor]) -> Validation:
    """What is kept of two epochs, after the sanity check."""
    validation = Validation(task)
    for epoch, checking in enumerate((True, False, False)):
        trainer: Any = SimpleNamespace(
            sanity_checking=checking, callback_metrics={f"val/{metric}": torch.tensor(0.25 * epoch)}
        )
        validation.on_validation_start(trainer, task)
        for index, batch in enumerate(batches):
            validation.on_validation_batch_end(trainer, task, None, batch, index)
        validation.on_validation_end(trainer, task)
    assert validation.scores == [0.25, 0.5]
    return validation


def test_classes_of_pixels() -> None:
    said = torch.zeros(3, 8, 8)
    said[2] = 1
    said[1, 0] = 2
    masks = torch.randint(-1, 3, (3, 8, 8), generator=torch.Generator().manual_seed(0))
    batches = [{"image": torch.rand(3, 3, 8, 8), "mask": masks} for _ in range(2)]
    task = SemanticSegmentationTask(said, ignore_index=-1, class_names=["a", "b", "c"])
    answers = kept(task, "mIoU", *batches).answers("full")
    assert answers.images.shape == (TILES, 8, 8, 3)
    assert answers.classes == ("a", "b", "c")
    np.testing.assert_array_equal(answers.labels, torch.cat([masks, masks[:1]]).numpy())
    np.testing.assert_array_equal(answers.counts, answers.labels >= 0)
    assert (answers.models["full"][:, 0] == 1).all()
    assert (answers.models["full"][:, 1:] == 2).all()


def test_large_maps_are_thinned_out_and_classes_stay_classes() -> None:
    masks = torch.tensor([[0, 2], [2, 0]]).repeat_interleave(112, 0).repeat_interleave(112, 1)
    batch = {"image": torch.rand(1, 3, 224, 224), "mask": masks[None]}
    task = SemanticSegmentationTask(torch.zeros(3, 224, 224), ignore_index=None)
    answers = kept(task, "mIoU", batch).answers("full")
    assert answers.labels.shape == (1, 112, 112)
    assert set(np.unique(answers.labels)) == {0, 2}
    assert (answers.labels[0, :56, 56:] == 2).all()


def test_numbers_of_pixels() -> None:
    masks = torch.arange(64.0).reshape(1, 8, 8)
    masks[0, 0, 0] = torch.nan
    task = PixelwiseRegressionTask(torch.full((1, 8, 8), 2.5), ignore_index=-1)
    batch = {"image": torch.rand(1, 3, 8, 8), "mask": masks}
    answers = kept(task, "R2_Score", batch).answers("full")
    assert (answers.kind, answers.classes) == ("regression", ())
    np.testing.assert_array_equal(answers.labels, masks.double().numpy())
    assert answers.counts.sum() == 63
    assert (answers.models["full"] == 2.5).all()


def test_classes_of_tiles() -> None:
    task = ClassificationTask(torch.tensor([0.0, 2.0, 1.0]), ignore_index=-1)
    batch = {"image": torch.rand(2, 3, 8, 8), "label": torch.tensor([1, -1])}
    answers = kept(task, "Accuracy", batch).answers("full")
    assert answers.labels.tolist() == [1, -1]
    assert answers.counts.tolist() == [True, False]
    assert answers.models["full"].tolist() == [1, 1]


def test_other_tasks_are_not_compared() -> None:
    with pytest.raises(ValueError, match="ReconstructionTask is not compared"):
        Validation(ReconstructionTask(torch.zeros(1)))
