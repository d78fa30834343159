"""Signs that weights were trained, or that a cut is safe: ``python -m studies.measure.signs ...``.

For every backbone on training tiles of a task, from one pass and without labels; for trained
weights also on tiles that are fed wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from studies.measure.certainty import matrix_of, whole_groups
from studies.measure.compose import CONTROL, SAME_TILES, Folders, compose, pairs
from studies.measure.feeding import FED
from studies.measure.layers import curves_of
from studies.measure.samples import read, samples_of
from studies.records import Signs
from studies.tables import RESULTS, complete
from terratorch_simpler.criteria import CRITERIA, SIMILARITY
from terratorch_simpler.layers.sampler import without_partners
from terratorch_simpler.selection.loop import ANCHORS

TABLE = RESULTS / "signs.csv"
TILES = 256
"""Most tiles of a task."""


def effective_dimension(samples: Tensor) -> float:
    """Participation ratio of the principal components' variances.

    (sum v)^2 / sum v^2: 1 where one direction holds all of it, the width where all hold the same.

    Args:
        samples: [samples, width].
    """
    centred = samples.double() - samples.double().mean(0)
    covariance = centred.T @ centred
    return float(covariance.trace() ** 2 / covariance.square().sum())


def signs(task: str, model: str, fed: str, samples: Tensor) -> Signs:
    """The row of one pass.

    Args:
        task: Name of the task.
        model: Name of the model.
        fed: How the tiles were fed.
        samples: [tiles, layers, samples of a tile and their partners, width].
    """
    tiles = whole_groups(len(samples))
    curves = curves_of(samples, np.arange(tiles))
    drawn = without_partners(samples, ANCHORS)
    matrix = matrix_of(drawn)
    dimensions = [effective_dimension(layer.flatten(0, 1)) for layer in drawn.unbind(1)]
    contrast = curves["spatial_contrast"]
    blocks = len(matrix) - 1
    votes = [
        int(rule.depths(matrix if rule.reads == SIMILARITY else curves[rule.reads])) / blocks
        for rule in CRITERIA.values()
    ]
    return Signs(
        task,
        model,
        fed,
        tiles,
        round(float(CRITERIA["simpler"].score(matrix[None]).max()), 4),
        round(float(matrix[0, -1]), 3),
        round(dimensions[0], 2),
        round(max(dimensions), 2),
        round(dimensions[-1], 2),
        round(float(contrast[1:].max() / contrast[0]), 3),
        round(float(np.std(votes)), 3),
    )


def cases() -> Iterator[tuple[str, str, str]]:
    """Tasks, models and ways to feed them."""
    for task, model in pairs():
        if task not in SAME_TILES:
            for fed in FED if not model.endswith(CONTROL) else ["as trained"]:
                yield task, model, fed


def main(folders: Folders, table: Path = TABLE) -> None:
    """Read what has no row yet.

    Args:
        folders: Where things lie.
        table: The CSV file of results, which is added to.
    """
    torch.set_grad_enabled(False)

    def make(task: str, model: str, fed: str) -> list[Signs]:
        config = FED[fed](compose(task, model, folders))
        samples = samples_of(read(config), anchors=ANCHORS, most=TILES)
        return [signs(task, model, fed, samples)]

    for rows in complete(Signs, table, cases(), make):
        print(*rows, flush=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main, as_positional=False)
