"""Run rows of the paper's table: ``python -m studies.paper.run --row ROW --data DATA``.

A row is trained and tested at full depth, and again at the depth that ``terratorch-simpler select``
chooses on its training images. Each of the two is one line of a CSV file, written as soon as it is
there; lines that are there are not run again. ``--smoke`` runs every row for one step on tiny data
and random weights, to see whether an install can.
"""

from __future__ import annotations

import gc
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from studies.paper.rows import Row, compose, row_of, rows
from studies.tables import read_csv, to_csv
from terratorch_simpler.files import make_folder, write_files

Variant = Literal["full", "simpler"]
Weights = Literal["hub", "random"]
SMOKE_BATCH = 2
SMOKE_TRAINER: dict[str, Any] = {"max_epochs": 1, "max_steps": 1, "precision": "32-true"}


@dataclass(frozen=True)
class Result:
    """A line of the table.

    Attributes:
        row: Which row.
        variant: Whether it was cut.
        weights: What it started from: figures of random weights say nothing of the model.
        seed: Of the run.
        metric: Name of the accuracy.
        accuracy: On the test images, after the last step.
        blocks: Blocks that the backbone has.
        parameters: Of the whole model.
        steps: Of training.
        select_seconds: That choosing the depth took, loading included; 0 at full depth.
        train_seconds: From the first step to the last.
        inference_ms: Of the model, an image, in batches of ``batch_size``.
        batch_size: Images in them.
        device: Where it ran.
    """

    row: str
    variant: Variant
    weights: Weights
    seed: int
    metric: str
    accuracy: float
    blocks: int
    parameters: int
    steps: int
    select_seconds: float
    train_seconds: float
    inference_ms: float
    batch_size: int
    device: str


@dataclass(frozen=True)
class Run:
    """What is run, and how.

    Attributes:
        row: Which row.
        variant: At full depth, or cut.
        data: Folder of the data sets.
        output: Folder for configs, plans and weights, a folder a row and seed in it.
        weights: What to start from.
        seed: Of the run.
        smoke: One step, in batches of two.
    """

    row: Row
    variant: Variant
    data: Path
    output: Path
    weights: Weights = "hub"
    seed: int = 0
    smoke: bool = False

    def __call__(self) -> Result:
        """Choose the depth if it is to be cut, train, and test."""
        folder = self.output / self.row.name / f"seed_{self.seed}"
        make_folder(folder)
        config = folder / f"{self.row.name}.yaml"
        write_files({config: self.config()}, overwrite=True)
        blocks, seconds = self.row.depth, 0.0
        if self.variant == "simpler":
            start = time.perf_counter()
            config, blocks = select(config, folder / "selected", self.seed)
            seconds = time.perf_counter() - start
        return self._train(config, folder, blocks, seconds)

    def config(self) -> str:
        """The config at full depth."""
        pretrained = self.weights == "hub"
        text = compose(self.row, self.data, pretrained=pretrained, seed=self.seed)
        if not self.smoke:
            return text
        config = yaml.safe_load(text)
        config["trainer"] |= SMOKE_TRAINER
        config["data"]["init_args"] |= {"batch_size": SMOKE_BATCH, "num_workers": 0}
        return yaml.safe_dump(config, sort_keys=False)

    def _train(self, config: Path, folder: Path, blocks: int, select_seconds: float) -> Result:
        from terratorch.cli_tools import build_lightning_cli

        from studies.paper.timing import Stopwatch
        from terratorch_simpler.backbones.backbone import count_parameters
        from terratorch_simpler.lightning import quiet_lightning

        with quiet_lightning():
            cli: Any = build_lightning_cli(
                [
                    "--config", str(config), f"--trainer.default_root_dir={folder}",
                    "--trainer.logger=false", "--trainer.enable_checkpointing=false",
                    "--trainer.enable_model_summary=false",
                    # The recipe is fixed: nothing is decided by validation.
                    "--trainer.limit_val_batches=0", "--trainer.num_sanity_val_steps=0",
                    f"--trainer.enable_progress_bar={str(sys.stdout.isatty()).lower()}",
                ],
                run=False,
            )  # fmt: skip
            stopwatch = Stopwatch()
            cli.trainer.callbacks.append(stopwatch)
            cli.trainer.fit(cli.model, datamodule=cli.datamodule)
            steps = cli.trainer.global_step
            if not self.smoke:
                # A failure of the test must not cost the training.
                weights = folder / f"{self.variant}.ckpt"
                cli.trainer.save_checkpoint(weights, weights_only=True)
            scores = cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)[0]
        return Result(
            row=self.row.name,
            variant=self.variant,
            weights=self.weights,
            seed=self.seed,
            metric=self.row.metric.rpartition("/")[2],
            accuracy=round(scores[self.row.metric], 4),
            blocks=blocks,
            parameters=count_parameters(cli.model.model),
            steps=steps,
            select_seconds=round(select_seconds, 1),
            train_seconds=round(stopwatch.train_seconds, 2),
            inference_ms=round(stopwatch.inference_ms, 3),
            batch_size=stopwatch.batch_size,
            device=stopwatch.device,
        )


def select(config: Path, output: Path, seed: int) -> tuple[Path, int]:
    """What ``terratorch-simpler select`` does: the config that it writes, and the depth chosen."""
    from terratorch_simpler import select_task

    chosen = select_task(config, output, seed=seed, overwrite=True, progress=False)
    assert chosen.config is not None
    return chosen.config, chosen.plan.depth


def run_all(runs: list[Run], table: Path) -> Iterator[Result]:
    """Run those that have no line in the table yet, and write each line as soon as it is there."""
    results: list[Result] = read_csv(Result, table)
    done = {(line.row, line.variant, line.weights, line.seed) for line in results}
    for run in runs:
        if (run.row.name, run.variant, run.weights, run.seed) in done:
            continue
        result = run()
        results.append(result)
        make_folder(table.parent)
        write_files({table: to_csv(Result, results)}, overwrite=True)
        yield result
        # Task and trainer hold each other, and gigabytes.
        gc.collect()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run rows of the paper's table; exits with status 2 and a message for a mistake."""
    parser = ArgumentParser("python -m studies.paper.run", description="Run rows of the table.")
    add = parser.add_argument
    add("--row", nargs="+", metavar="ROW", help="of those that python -m studies.paper.rows lists")
    add("--data", type=Path, help="folder of the data sets, as README.md beside this file says")
    add("--output", type=Path, default=Path("paper"), help="for table.csv and a folder a row")
    add("--weights", choices=get_args(Weights), default="hub", help="official (default) or random")
    add("--only", choices=get_args(Variant), help="one of the two variants")
    add("--seed", type=int, default=0, help="of the head's weights and the order of the images")
    add("--smoke", action="store_true", help="one step of each row on tiny data, random weights")
    options = parser.parse_args(arguments)
    if options.smoke == (options.data is not None):
        parser.error("name the folder of the data sets (--data), or --smoke and no folder")
    if not options.smoke and not options.row:
        parser.error("name a row (--row); --smoke runs all of them, on tiny data")
    try:
        chosen = [row_of(name) for name in options.row] if options.row else rows()
        data, output, weights = options.data, options.output, options.weights
        if options.smoke:
            from studies.paper.layout import lay_out

            output, weights = output / "smoke", "random"
            data = output / "data"
            lay_out(data, {one.dataset for one in chosen})
        variants = (options.only,) if options.only else get_args(Variant)
        runs = [
            Run(
                one, variant, data.resolve(), output.resolve(), weights, options.seed, options.smoke
            )
            for one, variant in product(chosen, variants)
        ]
        for result in run_all(runs, output / "table.csv"):
            print(describe(result), flush=True)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


def describe(result: Result) -> str:
    """A line of the table in words."""
    return (
        f"{result.row} {result.variant}: {result.metric} {result.accuracy:.4f}, {result.blocks} "
        f"blocks, {result.parameters / 1e6:.1f} M parameters, {result.train_seconds:.1f} s of "
        f"training, {result.inference_ms:.1f} ms an image, on {result.device}"
    )


if __name__ == "__main__":
    main()
