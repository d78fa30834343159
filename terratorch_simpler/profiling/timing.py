"""Times of training steps and of inference, as the demo shows them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

INFERENCE_RUNS = 7


@dataclass(frozen=True)
class Measured:
    """Milliseconds of a training step, and of inference on a batch of the same size.

    Attributes:
        step_ms: Median of a step.
        inference_ms: Median of inference.
        step_quartiles: Between which the middle half of the steps lies.
        inference_quartiles: The same of inference.
    """

    step_ms: float
    inference_ms: float
    step_quartiles: tuple[float, float]
    inference_quartiles: tuple[float, float]


class StepTimer(Callback):
    """Times every training step, from the batch being there to the weights being updated."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.image: Tensor | None = None
        self._start = 0.0

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: dict[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Start the clock."""
        self.image = batch["image"]
        self._start = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: dict[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self._start)


def time_inference(model: nn.Module, timer: StepTimer) -> Measured:
    """Time a trained model on the last training batch, beside its training steps."""
    assert timer.image is not None
    seconds = []
    model.eval()
    with torch.inference_mode():
        model(timer.image)
        for _ in range(INFERENCE_RUNS):
            start = time.perf_counter()
            model(timer.image)
            seconds.append(time.perf_counter() - start)
    return Measured(
        1e3 * median(timer.seconds),
        1e3 * median(seconds),
        _quartiles_ms(timer.seconds),
        _quartiles_ms(seconds),
    )


def _quartiles_ms(seconds: list[float]) -> tuple[float, float]:
    low, high = np.quantile(seconds, (0.25, 0.75)).tolist()
    return 1e3 * low, 1e3 * high
