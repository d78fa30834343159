"""Fine-tune depths, seeds, models and tasks: ``python -m studies.measure.run --study FILE ...``.

Every cell is what ``terratorch fit`` and ``terratorch test`` do with the config of
:mod:`studies.measure.compose`. Its row is written before the next one starts, and cells that
have a row are skipped, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from studies.measure.compose import Folders, compose, fits, metric_of, models
from studies.measure.methods import FIRST, METHODS
from studies.records import Row
from studies.tables import RESULTS, read_csv, to_csv
from terratorch_simpler.files import write_files
from terratorch_simpler.lightning import quiet_lightning

GRIDS = ("rgb", "six")
"""Tables of fine-tuning at a grid of depths."""


@dataclass(frozen=True)
class Cell:
    """What is trained.

    Attributes:
        task: A task of ``tasks/``.
        model: A model of ``models.yaml``.
        method: How it is cut and trained, a name of ``methods.py``.
        depth: Blocks kept.
        seed: Of the head's weights, the order of the tiles and their augmentation.
    """

    task: str
    model: str
    method: str
    depth: int
    seed: int


def cells_of(study: dict[str, Any]) -> Iterator[Cell]:
    """The cells of a study, seed by seed, so that a first answer is there early.

    Args:
        study: ``seeds`` and ``grids``: in each ``tasks``, ``models``, ``depths`` and ``methods``
            (``first`` alone, unless said). Pairs that do not share their bands are left out, and
            depths that a model does not have.
    """
    for seed in study["seeds"]:
        for grid in study["grids"]:
            for task, model in product(grid["tasks"], grid["models"]):
                if fits(task, model):
                    for method, depth in product(grid.get("methods", [FIRST]), grid["depths"]):
                        if depth <= models()[model]["depth"]:
                            yield Cell(task, model, method, depth, seed)


def committed(results: Path = RESULTS) -> list[Row]:
    """The rows of the grids in a folder of results."""
    return [row for name in GRIDS for row in read_csv(Row, results / f"{name}.csv")]


def run_study(study: dict[str, Any], folders: Folders, table: Path) -> list[Row]:
    """Run the cells that have no row in the table yet, and return all rows."""
    rows: list[Row] = read_csv(Row, table)
    done = {Cell(row.task, row.model, row.method, row.depth, row.seed) for row in rows}
    left = [cell for cell in cells_of(study) if cell not in done]
    for number, cell in enumerate(left, 1):
        row = run_cell(cell, folders)
        rows.append(row)
        table.parent.mkdir(parents=True, exist_ok=True)
        write_files({table: to_csv(Row, rows)}, overwrite=True)
        print(f"{number}/{len(left)} {cell} {row.accuracy:.3f} in {row.seconds:.0f} s", flush=True)
    return rows


def run_cell(cell: Cell, folders: Folders) -> Row:
    """Train and test one cell."""
    return train(cell, folders)[0]


def train(cell: Cell, folders: Folders) -> tuple[Row, nn.Module]:
    """Train and test one cell; gives the model as well."""
    from terratorch.cli_tools import build_lightning_cli

    from terratorch_simpler.backbones.backbone import count_parameters

    config = configure(cell, folders)
    with tempfile.TemporaryDirectory() as folder, quiet_lightning():
        quiet = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": folder,
            # The recipe is fixed: nothing is decided by validation.
            "limit_val_batches": 0,
        }
        config["trainer"] |= quiet
        file = Path(folder) / "task.yaml"
        file.write_text(yaml.safe_dump(config))
        cli = build_lightning_cli(["--config", str(file)], run=False)
        # Albumentations draws from a generator of its own, which seed_everything does not reach.
        cli.datamodule.train_transform.set_random_seed(cell.seed)
        start = time.perf_counter()
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        seconds = time.perf_counter() - start
        scores = cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)[0]
    metric = metric_of(cell.task)
    row = Row(
        **asdict(cell),
        metric=metric.rpartition("/")[2],
        accuracy=round(scores[metric], 4),
        epochs=config["trainer"]["max_epochs"],
        parameters=count_parameters(cli.model.model),
        seconds=round(seconds, 1),
        threads=torch.get_num_threads(),
    )
    return row, cli.model.model


def configure(cell: Cell, folders: Folders) -> dict[str, Any]:
    """The config of a cell: what ``terratorch fit -c`` takes."""
    config = compose(cell.task, cell.model, folders, seed=cell.seed)
    METHODS[cell.method](config, models()[cell.model]["depth"], cell.depth)
    return config


def main(
    study: Path,
    table: Path,
    sources: Path = Path("study/sources"),
    data: Path = Path("study/data"),
    weights: Path = Path("study/weights"),
    threads: int | None = None,
) -> None:
    """Run a study.

    Args:
        study: Its YAML file.
        table: The CSV file of results, which is added to.
        sources: The data sets as they come.
        data: What ``studies.measure.data`` made of them.
        weights: Weights of backbones.
        threads: Threads to compute with.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    folders = Folders(sources.resolve(), data.resolve(), weights.resolve())
    run_study(yaml.safe_load(study.read_text()), folders, table)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main, as_positional=False)
