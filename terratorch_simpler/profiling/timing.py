"""Times of training steps and of inference, as the demo shows them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

INFERENCE_RUNS = 7


@dataclass(frozen=True)
class Measured:
    """Median milliseconds of a training step, and of inference on a batch of the same size."""

    step_ms: float
    inference_ms: float


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
    return Measured(1e3 * median(timer.seconds), 1e3 * median(seconds))
