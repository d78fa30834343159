"""Fine-tuning as ``terratorch fit`` and ``terratorch test`` do it, with the steps timed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from terratorch_simpler.results.finetuned import FineTuned

if TYPE_CHECKING:
    from lightning.pytorch import Callback


def fine_tune(
    config: Path, folder: Path, epochs: int, name: str, depth: int, progress: bool
) -> FineTuned:
    """Fine-tune and test the segmentation model of a config.

    Args:
        config: A working TerraTorch config.
        folder: For what Lightning writes.
        epochs: Epochs of training.
        name: What the model is called in the result.
        depth: Blocks of its backbone, for the result.
        progress: Show a bar for every epoch.
    """
    from terratorch.cli_tools import build_lightning_cli

    from terratorch_simpler.backbones.backbone import count_parameters
    from terratorch_simpler.lightning import quiet_lightning
    from terratorch_simpler.profiling.timing import StepTimer, time_inference

    logging.getLogger("terratorch").setLevel(logging.ERROR)
    with quiet_lightning():
        overrides = [
            f"--trainer.max_epochs={epochs}",
            f"--trainer.default_root_dir={folder}",
            f"--trainer.enable_progress_bar={str(progress).lower()}",
            "--trainer.enable_model_summary=False",
        ]
        cli = build_lightning_cli(["--config", str(config), *overrides], run=False)
        timer = StepTimer()
        callbacks: list[Callback] = cli.trainer.callbacks  # type: ignore[attr-defined]
        callbacks.append(timer)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        scores = cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)[0]
    model = cli.model.model
    times = time_inference(model, timer)
    return FineTuned(
        name,
        depth,
        count_parameters(model),
        times.step_ms,
        times.inference_ms,
        "mIoU",
        scores["test/mIoU"],
    )
