"""What every criterion chooses, by pooling and tiles: ``python -m studies.measure.choices ...``.

Every backbone runs once over all training tiles of a task for each pooling; its samples are then
reshuffled, so that a choice comes with its spread over draws of tiles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from studies.measure.certainty import terms_of
from studies.measure.compose import Folders, compose, trained_pairs
from studies.measure.samples import QUIET, read, samples_of
from studies.records import Choice
from studies.tables import RESULTS, complete
from terratorch_simpler.criteria import OF_SIMILARITY
from terratorch_simpler.selection.certainty import cka
from terratorch_simpler.selection.groups import TILES_PER_GROUP
from terratorch_simpler.tiles import Pooling

TABLE = RESULTS / "choices.csv"
TILES = (32, 64, 128, 256, 512, 1024)
SHUFFLES = 20


def choices(task: str, model: str, pooling: Pooling, samples: Tensor) -> Iterator[Choice]:
    """The rows of one pass.

    Args:
        task: Name of the task.
        model: Name of the model.
        pooling: How tiles were sampled.
        samples: [tiles, layers, samples of a tile, width].
    """
    size = TILES_PER_GROUP[pooling]
    everything = len(samples) // size * size
    rng = np.random.default_rng(0)
    counts = sorted({tiles for tiles in TILES if size <= tiles < everything} | {everything})
    for tiles in counts:
        draws = [rng.permutation(len(samples))[:tiles] for _ in range(SHUFFLES)]
        matrices = np.stack([cka(terms_of(samples, draw, size).sum(0)) for draw in draws])
        for name, criterion in OF_SIMILARITY.items():
            depths, best = criterion.depths(matrices), criterion.score(matrices).max(axis=-1)
            for depth, times in sorted(Counter(depths.tolist()).items()):
                score = round(float(best[depths == depth].mean()), 4)
                yield Choice(task, model, pooling, name, tiles, depth, times, SHUFFLES, score)


def main(folders: Folders, table: Path = TABLE) -> None:
    """Choose for what has no row yet.

    Args:
        folders: Where things lie.
        table: The CSV file of results, which is added to.
    """
    torch.set_grad_enabled(False)

    def make(task: str, model: str, pooling: Pooling) -> Iterator[Choice]:
        settings = replace(QUIET, pooling=pooling)
        samples = samples_of(read(compose(task, model, folders)), settings)
        return choices(task, model, pooling, samples)

    cases = [(*pair, pooling) for pair in trained_pairs() for pooling in get_args(Pooling)]
    for rows in complete(Choice, table, cases, make):
        print(f"{rows[0].task} {rows[0].model} {rows[0].pooling}", flush=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main, as_positional=False)
