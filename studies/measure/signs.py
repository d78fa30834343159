"""Signs that weights were trained, or that a cut is safe: ``python -m studies.measure.signs ...``.

For every backbone on the training tiles of a task, from one pass and without labels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from studies.measure.certainty import matrix_of, whole_groups
from studies.measure.compose import SAME_TILES, Folders, compose, pairs
from studies.measure.samples import read, samples_of
from studies.records import Signs
from studies.tables import RESULTS, complete
from terratorch_simpler.criteria import CRITERIA

TABLE = RESULTS / "signs.csv"


def effective_dimension(samples: Tensor) -> float:
    """Participation ratio of the principal components' variances.

    (sum v)^2 / sum v^2: 1 where one direction holds all of it, the width where all hold the same.

    Args:
        samples: [samples, width].
    """
    centred = samples.double() - samples.double().mean(0)
    covariance = centred.T @ centred
    return float(covariance.trace() ** 2 / covariance.square().sum())


def signs(task: str, model: str, samples: Tensor) -> Signs:
    """The row of one pass.

    Args:
        task: Name of the task.
        model: Name of the model.
        samples: [tiles, layers, samples of a tile, width].
    """
    matrix = matrix_of(samples)
    dimensions = [effective_dimension(layer.flatten(0, 1)) for layer in samples.unbind(1)]
    return Signs(
        task,
        model,
        whole_groups(len(samples)),
        round(float(CRITERIA["simpler"].score(matrix[None]).max()), 4),
        round(float(matrix[0, -1]), 3),
        round(dimensions[0], 2),
        round(max(dimensions), 2),
        round(dimensions[-1], 2),
    )


def main(folders: Folders, table: Path = TABLE) -> None:
    """Read what has no row yet.

    Args:
        folders: Where things lie.
        table: The CSV file of results, which is added to.
    """
    torch.set_grad_enabled(False)

    def make(task: str, model: str) -> list[Signs]:
        return [signs(task, model, samples_of(read(compose(task, model, folders))))]

    cases = [(task, model) for task, model in pairs() if task not in SAME_TILES]
    for rows in complete(Signs, table, cases, make):
        print(*rows, flush=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main, as_positional=False)
