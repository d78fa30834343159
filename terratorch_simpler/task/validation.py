"""What validation shows of a training: the score of every epoch, and answers for a few tiles."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from terratorch_simpler.bands import band_names
from terratorch_simpler.probing.labels import Labels, labels_of_task
from terratorch_simpler.results.answers import Answers, Kind
from terratorch_simpler.selection.thumbnails import Thumbnails
from terratorch_simpler.tiles.batches import modalities_of

TILES = 4
"""Of the first of the validation."""
METRICS = {"segmentation": "mIoU", "regression": "R2_Score", "classification": "Accuracy"}
"""By what the labels are, TerraTorch's name of the score that is shown; more of it is better."""


class Validation(Callback):
    """Keeps the score of every epoch, and the answers of the newest one.

    Args:
        task: The task that is trained.

    Raises:
        ValueError: If its labels are of no kind that is shown.
    """

    def __init__(self, task: LightningModule) -> None:
        labels = labels_of_task(task)
        if labels is None or labels.kind not in METRICS:
            raise ValueError(
                f"{type(task).__name__} is not compared: tasks are for {', '.join(METRICS)}"
            )
        self.labels: Labels = labels
        self.metric = METRICS[labels.kind]
        self.scores: list[float] = []
        self._task = task
        self._clear()

    def _clear(self) -> None:
        self._pictures = Thumbnails(
            band_names(self._task.hparams["model_args"].get("backbone_bands"))
        )
        self._labels: list[Tensor] = []
        self._said: list[Tensor] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the epoch before."""
        self._clear()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ask about the tiles of the first batches."""
        if len(self._labels) >= TILES:
            return
        images = next(iter(modalities_of(batch["image"]).values()))
        given = {"image", "mask", "label", "filename", "prediction"}
        others = {name: value for name, value in batch.items() if name not in given}
        # As the task's own validation_step does.
        said = pl_module(batch["image"], **others).output.detach().cpu()
        self._pictures.update(images, None)
        self._labels += self.labels.of(batch, len(images))
        self._said += said.squeeze(1) if self.labels.kind == "regression" else said.argmax(1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the score."""
        if not trainer.sanity_checking:
            self.scores.append(float(trainer.callback_metrics[f"val/{self.metric}"]))

    def answers(self, name: str) -> Answers:
        """What the model says after the newest epoch.

        Args:
            name: What it is called.
        """
        images = np.stack(list(self._pictures.images.values())[:TILES])
        labels, said = (torch.stack(values[:TILES]) for values in (self._labels, self._said))
        counts = self.labels.counts(labels.double())
        size = (images.shape[1], images.shape[2])
        names = self._task.hparams.get("class_names") or ()
        return Answers(
            cast(Kind, self.labels.kind),
            images,
            _small(labels, size),
            _small(counts, size).astype(bool),
            {name: _small(said.to(labels.dtype), size)},
            tuple(map(str, names)),
        )


def _small(values: Tensor, size: tuple[int, int]) -> NDArray[Any]:
    """Maps in the size of the pictures, by the nearest pixel; classes of tiles as they are."""
    if values.ndim == 1:
        return values.numpy()
    small = torch.nn.functional.interpolate(values[:, None].double(), size, mode="nearest")[:, 0]
    return small.to(values.dtype).numpy()
