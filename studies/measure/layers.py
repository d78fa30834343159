"""Statistics of every layer, and what is chosen by them: ``python -m studies.measure.layers ...``.

Every backbone runs once over all training tiles of a task; its samples are then reshuffled, as in
``studies.measure.choices``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from studies.measure.choices import SHUFFLES, TILES
from studies.measure.compose import SAME_TILES, Folders, compose, pairs, trained_pairs
from studies.measure.samples import read, samples_of
from studies.records import Choice, LayerCurve
from studies.tables import RESULTS, complete
from terratorch_simpler.criteria import CRITERIA, OF_SIMILARITY
from terratorch_simpler.layers.sampler import PARTNERS, without_partners
from terratorch_simpler.layers.statistics import LayerStatistics
from terratorch_simpler.selection.groups import TILES_PER_GROUP
from terratorch_simpler.selection.loop import ANCHORS
from terratorch_simpler.similarity import centered_grams

TABLE = RESULTS / "layer_choices.csv"
CURVES = RESULTS / "layer_curves.csv"
SIZE = TILES_PER_GROUP["tokens"]
MOST = 512
"""Tiles of the largest draws: as many as a selection takes."""
Curves = dict[str, NDArray[np.float64]]


def curves_of(samples: Tensor, order: NDArray[np.int64]) -> Curves:
    """Statistics of the whole groups of tiles in an order, as a plan holds them: [layers] each.

    Args:
        samples: [tiles, layers, samples of a tile and their partners, width].
        order: The tiles.
    """
    metric = LayerStatistics(samples.shape[1])
    for number in range(len(order) // SIZE):
        group = samples[order[number * SIZE : (number + 1) * SIZE]].transpose(0, 1)
        drawn = without_partners(group, ANCHORS)
        partners = rearrange(
            group[:, :, drawn.shape[2] :], "l t (a p) width -> l t a p width", p=PARTNERS
        )
        grams = centered_grams(drawn.flatten(1, 2).unbind())
        metric.update(grams, drawn[:, :, :ANCHORS], partners, number)
    found = metric.compute()
    return {name: np.round(curve.double().numpy(), 6) for name, curve in found.items()}


def choices(task: str, model: str, samples: Tensor) -> Iterator[Choice]:
    """What the criteria that read a statistic choose, over draws of tiles.

    Args:
        task: Name of the task.
        model: Name of the model.
        samples: As :func:`curves_of`.
    """
    everything = min(len(samples) // SIZE * SIZE, MOST)
    rng = np.random.default_rng(0)
    for tiles in sorted({tiles for tiles in TILES if tiles < everything} | {everything}):
        drawn = [curves_of(samples, rng.permutation(len(samples))[:tiles]) for _ in range(SHUFFLES)]
        for name, rule in CRITERIA.items():
            if name in OF_SIMILARITY:
                continue
            stack = np.stack([curves[rule.reads] for curves in drawn])
            depths, best = rule.depths(stack), rule.score(stack).max(axis=-1)
            for depth, times in sorted(Counter(depths.tolist()).items()):
                score = round(float(best[depths == depth].mean()), 4)
                yield Choice(task, model, "tokens", name, tiles, depth, times, SHUFFLES, score)


def curves(task: str, model: str, samples: Tensor) -> Iterator[LayerCurve]:
    """The statistics of all tiles."""
    for name, curve in curves_of(samples, np.arange(len(samples))).items():
        for layer, value in enumerate(curve.tolist()):
            yield LayerCurve(task, model, name, layer, value)


def main(folders: Folders, table: Path = TABLE, layers: Path = CURVES) -> None:
    """Measure what has no rows yet.

    Args:
        folders: Where things lie.
        table: The CSV file of choices, which is added to.
        layers: The CSV file of statistics, likewise.
    """
    torch.set_grad_enabled(False)
    cases = [(task, model) for task, model in pairs() if task not in SAME_TILES]
    trained = [pair for pair in trained_pairs() if pair in cases]

    def samples(task: str, model: str) -> Tensor:
        return samples_of(read(compose(task, model, folders)), anchors=ANCHORS)

    for rows in complete(Choice, table, trained, lambda t, m: choices(t, m, samples(t, m))):
        print(f"{table.name}: {rows[0].task} {rows[0].model}", flush=True)
    for curve in complete(LayerCurve, layers, cases, lambda t, m: curves(t, m, samples(t, m))):
        print(f"{layers.name}: {curve[0].task} {curve[0].model}", flush=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main, as_positional=False)
