"""Accuracy against training time and inference time: ``python -m studies.measure.frontier ...``.

Every arm of ``frontier.yaml`` is trained, seed by seed; then the models of a seed are timed side by
side. A seed that has its rows is not run again; times are comparable within a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
import yaml
from matplotlib.figure import Figure
from torch import nn

from studies.measure.compose import Folders, compose
from studies.measure.run import Cell, train
from studies.records import Priced, Row
from studies.svg import to_svg
from studies.tables import RESULTS, read_csv, to_csv
from terratorch_simpler.files import write_files
from terratorch_simpler.profiling.costs import time_in_rounds
from terratorch_simpler.profiling.runs import inference

ARMS = Path(__file__).parents[1] / "frontier.yaml"
BATCH, ROUNDS = 16, 15


def price(study: dict[str, Any], folders: Folders) -> Iterator[list[Priced]]:
    """Train and time all arms: the rows of one seed after the other."""
    arguments = compose(study["task"], "dinov2", folders)["model"]["init_args"]["model_args"]
    side = arguments["backbone_img_size"]
    pictures = torch.randn(BATCH, 3, side, side)
    for seed in study["seeds"]:
        fitted = {
            arm: train(Cell(task=study["task"], seed=seed, **cell), folders)
            for arm, cell in study["arms"].items()
        }
        runs = {arm: inference(model, (pictures, {})) for arm, (_, model) in fitted.items()}
        for run in runs.values():
            run()
        times = time_in_rounds(runs.__getitem__, runs, ROUNDS, torch.device("cpu"))
        yield [
            _priced(arm, row, model, 1000 * median(times[arm]) / BATCH)
            for arm, (row, model) in fitted.items()
        ]


def _priced(arm: str, row: Row, model: nn.Module, milliseconds: float) -> Priced:
    return Priced(
        arm,
        row.seed,
        row.metric,
        row.accuracy,
        row.parameters,
        sum(p.numel() for p in model.parameters() if p.requires_grad),
        row.seconds,
        round(milliseconds, 3),
        row.threads,
    )


def draw(rows: list[Priced]) -> Figure:
    """Accuracy against training time and against inference time: means, with the seeds' range."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    arms = dict.fromkeys(row.arm for row in rows)
    for axes, (what, label) in zip(
        figure.subplots(1, 2, sharey=True),
        (("seconds", "training [s]"), ("inference_ms", "inference [ms a picture]")),
        strict=True,
    ):
        for arm in arms:
            of = [row for row in rows if row.arm == arm]
            scores, costs = [row.accuracy for row in of], [getattr(row, what) for row in of]
            middle = mean(scores)
            ends = [[middle - min(scores)], [max(scores) - middle]]
            axes.errorbar(mean(costs), middle, ends, fmt="o", label=arm, capsize=3)
        axes.set(xlabel=label, xlim=(0, None))
    figure.axes[0].set_ylabel(rows[0].metric)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize=8, loc="outside lower center", ncols=4)
    return figure


def main(folders: Folders, threads: int | None = None, study: Path = ARMS) -> None:
    """Run the seeds that have no rows; write the table and the figure after each.

    Args:
        folders: Where things lie.
        threads: Threads to compute with.
        study: The arms.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    rows: list[Priced] = read_csv(Priced, RESULTS / "frontier.csv")
    arms = yaml.safe_load(study.read_text())
    arms["seeds"] = [seed for seed in arms["seeds"] if seed not in {row.seed for row in rows}]
    for fitted in price(arms, folders):
        rows += fitted
        print(*fitted, sep="\n", flush=True)
        write_files(
            {
                RESULTS / "frontier.csv": to_csv(Priced, rows),
                RESULTS / "frontier.svg": to_svg(draw(rows)),
            },
            overwrite=True,
        )


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main, as_positional=False)
