"""The frozen probe of every task and trained model: ``python -m studies.measure.probes ...``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from studies.measure.compose import Folders, compose, metric_of, trained_pairs
from studies.measure.samples import data_of, read
from studies.records import Probed
from studies.tables import RESULTS, complete
from terratorch_simpler.probing.probe import ProbeSettings, run_probe

TABLE = RESULTS / "probed.csv"
METRICS = {
    "test/Accuracy": "accuracy",
    "test/mIoU": "mIoU",
    "test/Pixel_Accuracy": "pixel accuracy",
    "test/R2_Score": "R2",
}
"""What the probe calls the metrics of the tasks."""


def probe(task: str, model: str, folders: Folders) -> list[Probed]:
    """The rows of one task and model."""
    found = read(compose(task, model, folders))
    assert found.labels is not None
    settings = ProbeSettings(progress=False)
    result = run_probe(found.backbone, data_of(found), None, found.labels, settings)
    metric = METRICS[metric_of(task)]
    errors = result.errors or {}
    rows = [
        Probed(task, model, depth, result.metric, round(score, 4), _rounded(errors.get(depth)))
        for depth, score in result.scores.items()
    ]
    if metric != result.metric:
        rows += [
            Probed(task, model, depth, metric, round(score, 4), None)
            for depth, score in result.others[metric].items()
        ]
    return rows


def _rounded(error: float | None) -> float | None:
    return None if error is None else round(error, 5)


def main(folders: Folders, table: Path = TABLE) -> None:
    """Probe what has no row yet.

    Args:
        folders: Where things lie.
        table: The CSV file of results, which is added to.
    """
    for rows in complete(Probed, table, trained_pairs(), partial(probe, folders=folders)):
        print(f"{rows[0].task} {rows[0].model}: {[row.score for row in rows]}", flush=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main, as_positional=False)
