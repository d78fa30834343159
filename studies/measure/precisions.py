"""What 16 bits change in a choice: ``python -m studies.measure.precisions ...``.

On GPUs ``select`` runs a backbone in bf16-mixed. Here a CPU does, beside 32 bits, on all training
tiles of a task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from studies.measure.certainty import matrix_of, whole_groups
from studies.measure.compose import SAME_TILES, Folders, compose, trained_pairs
from studies.measure.samples import QUIET, read, samples_of
from studies.records import Precision
from studies.tables import RESULTS, complete
from terratorch_simpler.criteria import OF_SIMILARITY

TABLE = RESULTS / "precisions.csv"


def precisions(task: str, model: str, samples: Tensor, samples_bf16: Tensor) -> Iterator[Precision]:
    """The rows of two passes.

    Args:
        task: Name of the task.
        model: Name of the model.
        samples: [tiles, layers, samples of a tile, width], in 32 bits.
        samples_bf16: The same of a pass in bf16-mixed.
    """
    matrices = np.stack([matrix_of(samples), matrix_of(samples_bf16)])
    tiles = whole_groups(len(samples))
    difference = round(float(np.abs(matrices[0] - matrices[1]).max()), 6)
    for name, criterion in OF_SIMILARITY.items():
        depth, depth_bf16 = criterion.depths(matrices).tolist()
        yield Precision(task, model, tiles, name, depth, depth_bf16, difference)


def main(folders: Folders, table: Path = TABLE) -> None:
    """Read what has no rows yet.

    Args:
        folders: Where things lie.
        table: The CSV file of results, which is added to.
    """
    torch.set_grad_enabled(False)

    def make(task: str, model: str) -> Iterator[Precision]:
        full, half = (
            samples_of(
                read(compose(task, model, folders)),
                replace(QUIET, accelerator="cpu", precision=precision),
            )
            for precision in ("32-true", "bf16-mixed")
        )
        return precisions(task, model, full, half)

    cases = [pair for pair in trained_pairs() if pair[0] not in SAME_TILES]
    for rows in complete(Precision, table, cases, make):
        print(*rows, sep="\n", flush=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main, as_positional=False)
