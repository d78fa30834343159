"""``terratorch-simpler demo``: the main job on the embedded sample, full against pruned."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table

from terratorch_simpler.cli.console import ConsoleReporter
from terratorch_simpler.cli.select import show
from terratorch_simpler.files import check_free, make_folder, write_files
from terratorch_simpler.task.run import RESULTS
from terratorch_simpler.task.select import select_task

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from terratorch_simpler.profiling.timing import Measured

TASK = "segmentation.yaml"
SAMPLES_IN_CLONE = "terratorch_simpler/samples"


@dataclass(frozen=True)
class Trained:
    """One fine-tuned model: its size, its times and its accuracy.

    Attributes:
        depth: Number of blocks.
        parameters: Parameters of the whole model, decoder and head included.
        measured: Milliseconds of a training step and of inference.
        miou: Mean intersection over union on the validation tiles, 0..1.
    """

    depth: int
    parameters: int
    measured: Measured
    miou: float


def run(options: Namespace) -> None:
    """Run the command.

    Raises:
        ValueError: If the output folder cannot be written, or there is nothing to train.
        FileExistsError: If it holds results already and ``--overwrite`` is not given.
    """
    console = Console(quiet=options.quiet, highlight=False)
    if options.epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {options.epochs}")
    folder = Path(options.output)
    task = folder / TASK
    results = [folder / name for name in (*RESULTS, f"{task.stem}_simpler.yaml")]
    check_free([task, *results], options.overwrite, option="--overwrite")
    make_folder(folder)
    write_files({task: task_config()}, options.overwrite)
    console.rule("1. Select the depth")
    chosen = select_task(
        task,
        folder,
        overwrite=options.overwrite,
        reporter=ConsoleReporter(console),
        progress=not options.quiet and sys.stdout.isatty(),
    )
    show(console, chosen)
    assert chosen.config is not None
    trained = {}
    for number, (name, config) in enumerate({"full": task, "pruned": chosen.config}.items(), 2):
        console.rule(f"{number}. terratorch fit -c {config}")
        trained[name] = _fine_tune(config, folder / "runs" / name, options.epochs)
    console.rule("Full against pruned")
    console.print(comparison(trained["full"], trained["pruned"]))
    console.print(
        f"plan {folder / 'plan.json'}, report {folder / 'report.html'}, config {chosen.config}",
        soft_wrap=True,
    )


def task_config() -> str:
    """The sample's task config, with the place where the sample is installed."""
    samples = files("terratorch_simpler") / "samples"
    text = (samples / TASK).read_text()
    return text.replace(SAMPLES_IN_CLONE, Path(str(samples)).as_posix())


def _fine_tune(config: Path, folder: Path, epochs: int) -> Trained:
    """What ``terratorch fit`` and ``terratorch test`` do, with the steps timed."""
    from terratorch.cli_tools import build_lightning_cli

    from terratorch_simpler.backbones.backbone import count_parameters
    from terratorch_simpler.lightning import quiet_lightning
    from terratorch_simpler.profiling.timing import StepTimer, time_inference

    logging.getLogger("terratorch").setLevel(logging.ERROR)
    with quiet_lightning():
        overrides = [
            f"--trainer.max_epochs={epochs}",
            f"--trainer.default_root_dir={folder}",
            "--trainer.enable_model_summary=False",
        ]
        cli = build_lightning_cli(["--config", str(config), *overrides], run=False)
        timer = StepTimer()
        callbacks: list[Callback] = cli.trainer.callbacks  # type: ignore[attr-defined]
        callbacks.append(timer)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        scores = cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)[0]
    model = cli.model.model
    depth, parameters = len(model.encoder.blocks), count_parameters(model)
    return Trained(depth, parameters, time_inference(model, timer), scores["test/mIoU"])


def comparison(full: Trained, pruned: Trained) -> Table:
    """The final table: both models side by side."""
    rows = (
        ("depth (blocks)", full.depth, pruned.depth, "d"),
        ("parameters of the model (M)", full.parameters / 1e6, pruned.parameters / 1e6, ".2f"),
        ("ms per training step", full.measured.step_ms, pruned.measured.step_ms, ".0f"),
        (
            "ms per batch at inference",
            full.measured.inference_ms,
            pruned.measured.inference_ms,
            ".0f",
        ),
        ("mIoU on the validation tiles", full.miou, pruned.miou, ".3f"),
    )
    table = Table("", "full", "pruned", "pruned / full", box=None, pad_edge=False)
    for name, a, b, style in rows:
        table.add_row(name, format(a, style), format(b, style), f"{b / a:.2f}" if a else "-")
    return table
