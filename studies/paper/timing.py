"""How long training takes, and the model for one image, on whatever device it runs."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

WARM_UP, RUNS = 2, 7


class Stopwatch(Callback):
    """Times the training, and the model on the first test batch.

    Attributes:
        train_seconds: From the start of training to its end.
        inference_ms: Median time of the model, an image.
        batch_size: Images in the batch that it was timed on.
        device: Where.
    """

    def __init__(self) -> None:
        self.train_seconds = self.inference_ms = 0.0
        self.batch_size = 0
        self.device = ""
        self._start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start = _now(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self.train_seconds = _now(pl_module) - self._start

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Time the model on the first batch, in the precision of the trainer."""
        if batch_idx > 0:
            return
        seconds = []
        with trainer.precision_plugin.test_step_context():
            for _ in range(WARM_UP + RUNS):
                start = _now(pl_module)
                pl_module(batch["image"])
                seconds.append(_now(pl_module) - start)
        self.batch_size = len(batch["image"])
        self.inference_ms = 1e3 * median(seconds[WARM_UP:]) / self.batch_size
        cuda = pl_module.device.type == "cuda"
        self.device = torch.cuda.get_device_name() if cuda else pl_module.device.type


def _now(module: LightningModule) -> float:
    """The time at which the device has done what it was given."""
    if module.device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()
