"""Fine-tuning as ``terratorch fit`` and ``terratorch test`` do it, with the steps timed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from terratorch_simpler.results.answers import Answers
from terratorch_simpler.results.finetuned import FineTuned

if TYPE_CHECKING:
    from lightning.pytorch import Callback

LINES = 4
"""Lines that say how far a training is, where no bar does."""


@dataclass(frozen=True)
class Trained:
    """What came of a fine-tuning.

    Attributes:
        model: Its size, times and scores.
        answers: What it says of a few validation tiles.
    """

    model: FineTuned
    answers: Answers


def fine_tune(
    config: Path,
    folder: Path,
    epochs: int,
    name: str,
    depth: int,
    say: Callable[[str], None] | None = None,
) -> Trained:
    """Fine-tune and test the model of a config, for segmentation, regression or classification.

    Args:
        config: A working TerraTorch config.
        folder: For what Lightning writes.
        epochs: Epochs of training.
        name: What the model is called in the result.
        depth: Blocks of its backbone, for the result.
        say: Is told how far the training is; without it a bar shows every epoch.

    Raises:
        ValueError: If the task is for something else.
    """
    from terratorch.cli_tools import build_lightning_cli

    from terratorch_simpler.backbones.backbone import count_parameters
    from terratorch_simpler.lightning import quiet_lightning
    from terratorch_simpler.profiling.timing import StepTimer, time_inference
    from terratorch_simpler.task.validation import Validation

    logging.getLogger("terratorch").setLevel(logging.ERROR)
    with quiet_lightning():
        overrides = [
            f"--trainer.max_epochs={epochs}",
            f"--trainer.default_root_dir={folder}",
            f"--trainer.enable_progress_bar={str(say is None).lower()}",
            "--trainer.enable_model_summary=False",
        ]
        cli = build_lightning_cli(["--config", str(config), *overrides], run=False)
        timer, validation = StepTimer(), Validation(cli.model)
        callbacks: list[Callback] = cli.trainer.callbacks  # type: ignore[attr-defined]
        callbacks += [timer, validation] + ([] if say is None else [_lines(say, epochs)])
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        scores = cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)[0]
    model = cli.model.model
    times = time_inference(model, timer)
    found = FineTuned(
        name,
        depth,
        count_parameters(model),
        times.step_ms,
        times.inference_ms,
        validation.metric,
        scores[f"test/{validation.metric}"],
        validation.scores,
        times.step_quartiles,
        times.inference_quartiles,
    )
    return Trained(found, validation.answers(name))


def _lines(say: Callable[[str], None], epochs: int) -> Callback:
    """Says every few epochs how far it is."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import LambdaCallback

    start = time.perf_counter()

    def tell(trainer: Trainer, _module: LightningModule) -> None:
        done = trainer.current_epoch + 1
        if done * LINES // epochs > (done - 1) * LINES // epochs:
            say(f"epoch {done} of {epochs}, {time.perf_counter() - start:.0f} s")

    return LambdaCallback(on_train_epoch_end=tell)
