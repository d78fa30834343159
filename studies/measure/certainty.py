"""How far a stated confidence, an early stop and the size of a group can be trusted.

``python -m studies.measure.certainty --sources DIR --data DIR --weights DIR`` runs every backbone
once over all tiles of a task, keeps the samples of each tile, and reshuffles them: no further
forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from studies.measure.compose import Folders, compose
from studies.measure.samples import read, samples_of
from studies.tables import RESULTS, to_csv
from terratorch_simpler.baselines import Matrix
from terratorch_simpler.criteria import CRITERIA
from terratorch_simpler.files import write_files
from terratorch_simpler.selection.certainty import assess, cka, is_settled, may_stop_at
from terratorch_simpler.selection.groups import TILES_PER_GROUP
from terratorch_simpler.similarity import hsic_terms

CASES = (("eurosat", "dinov2"), ("flood_water", "mae12"), ("gewata_landcover", "mae12"))
CHOOSES = ("simpler", "stabilization")
SHUFFLES, MOST_TILES = 200, 512
GROUP_SIZES = (4, 8, 16, 32, 64)
LEVELS = (0.8, 0.9, 0.95)

Terms = NDArray[np.float64]


@dataclass(frozen=True)
class Stop:
    """One row of the early-stop table: over all shuffles of one case.

    Attributes:
        tiles: Tiles of the full run.
        mean_tiles: Tiles used on average.
        stopped: Shuffles that stopped early.
        agree: Of these, how many chose what the full run of the same shuffle chose.
    """

    task: str
    model: str
    criterion: str
    tiles: int
    mean_tiles: float
    shuffles: int
    stopped: int
    agree: int


@dataclass(frozen=True)
class Stated:
    """One row of the calibration table.

    Attributes:
        tiles: Tiles that the statement rests on.
        level: Statements of at least this confidence.
        statements: How many there were.
        right: Of these, how many chose what all tiles together choose.
    """

    task: str
    model: str
    criterion: str
    tiles: int
    level: float
    statements: int
    right: int


@dataclass(frozen=True)
class Grouped:
    """One row of the table of group sizes: what all tiles choose.

    Attributes:
        confidence: As a plan would state it; None for too few groups.
    """

    task: str
    model: str
    criterion: str
    tiles: int
    tiles_per_group: int
    depth: int
    confidence: float | None


def terms_of(samples: Tensor, order: NDArray[np.int64], size: int) -> Terms:
    """HSIC terms of the groups of so many tiles in an order: [groups, layers, layers]."""
    groups = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
    return np.stack(
        [
            hsic_terms(samples[group].transpose(0, 1).flatten(1, 2).unbind()).numpy()
            for group in groups
        ]
    )


def whole_groups(tiles: int) -> int:
    """How many of so many tiles are in whole groups of the default size."""
    return tiles - tiles % TILES_PER_GROUP["tokens"]


def matrix_of(samples: Tensor) -> Matrix:
    """CKA of all whole groups of the default size: [layers, layers]."""
    return cka(terms_of(samples, np.arange(len(samples)), TILES_PER_GROUP["tokens"]).sum(0))


def depth_of(terms: Terms, criterion: str) -> int:
    """The choice of a criterion on groups together."""
    return int(CRITERIA[criterion].depths(cka(terms.sum(0, keepdims=True)))[0])


def study(task: str, model: str, samples: Tensor) -> Iterator[Stop | Stated | Grouped]:
    """All rows of one case."""
    size, rng = TILES_PER_GROUP["tokens"], np.random.default_rng(0)
    everything = np.arange(len(samples))
    for per_group in GROUP_SIZES:
        terms = terms_of(samples, everything, per_group)
        for criterion in CHOOSES:
            depth, shares = depth_of(terms, criterion), assess(terms, criterion, 0).shares
            yield Grouped(
                task, model, criterion, len(terms) * per_group, per_group, depth,
                shares.get(depth, 0.0) if shares else None,
            )  # fmt: skip
    most = min(MOST_TILES, len(samples) // size * size)
    shuffles = [
        terms_of(samples, rng.permutation(everything)[:most], size) for _ in range(SHUFFLES)
    ]
    everyone = terms_of(samples, everything, size)
    for criterion in CHOOSES:
        yield _stops(task, model, criterion, shuffles, size)
        truth = depth_of(everyone, criterion)
        for groups in (8, 16, 32):
            # Only where the statement rests on less than half of what it is judged by.
            if 2 * groups <= len(everyone):
                yield from _stated(task, model, criterion, shuffles, groups, size, truth)


def _stops(task: str, model: str, criterion: str, shuffles: list[Terms], size: int) -> Stop:
    used, stopped, agree = [], 0, 0
    for terms in shuffles:
        stops = [groups for groups in range(1, len(terms)) if may_stop_at(groups * size, size)]
        end = next((g for g in stops if is_settled(terms[:g], criterion, 0)), len(terms))
        used.append(end * size)
        if end < len(terms):
            stopped += 1
            agree += depth_of(terms[:end], criterion) == depth_of(terms, criterion)
    tiles = len(shuffles[0]) * size
    return Stop(task, model, criterion, tiles, float(np.mean(used)), len(shuffles), stopped, agree)


def _stated(
    task: str,
    model: str,
    criterion: str,
    shuffles: list[Terms],
    groups: int,
    size: int,
    truth: int,
) -> Iterator[Stated]:
    chosen = [depth_of(terms[:groups], criterion) for terms in shuffles]
    confidence = [
        assess(terms[:groups], criterion, 0).shares.get(depth, 0.0)
        for terms, depth in zip(shuffles, chosen, strict=True)
    ]
    for level in LEVELS:
        sure = [d == truth for d, c in zip(chosen, confidence, strict=True) if c >= level]
        yield Stated(task, model, criterion, groups * size, level, len(sure), sum(sure))


def main() -> None:
    """Write the three tables of every case."""
    from jsonargparse import auto_cli

    folders = auto_cli(Folders, as_positional=False)
    torch.set_grad_enabled(False)
    rows = [
        row
        for task, model in CASES
        for row in study(task, model, samples_of(read(compose(task, model, folders))))
    ]
    RESULTS.mkdir(exist_ok=True)
    tables = {"early_stop": Stop, "confidence": Stated, "group_size": Grouped}
    write_files(
        {
            RESULTS / f"{name}.csv": to_csv(kind, [row for row in rows if isinstance(row, kind)])
            for name, kind in tables.items()
        },
        overwrite=True,
    )


if __name__ == "__main__":
    main()
