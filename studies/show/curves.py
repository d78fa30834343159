"""Accuracy after fine-tuning against depth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studies.measure.compose import CONTROL, models
from studies.measure.methods import FIRST
from studies.measure.run import committed
from studies.records import Pictured, Retained, Row
from studies.tables import RESULTS, read_csv
from terratorch_simpler.results.probe import SHARE

PICTURES = "eurosat_pictures"
"""The task of the autoencoder of pictures, which was fine-tuned outside of TerraTorch."""
PICTURED = {"pretrained": "mae_pictures", "random": "mae_pictures" + CONTROL}
"""Its names in ``models.yaml``."""


@dataclass(frozen=True)
class Scored:
    """An accuracy after fine-tuning the first blocks."""

    task: str
    model: str
    depth: int
    accuracy: float


@dataclass(frozen=True)
class Curve:
    """Accuracy against depth for a model on a task."""

    rows: list[Retained]

    @property
    def total(self) -> int:
        """Blocks of the full depth."""
        return self.rows[-1].depth

    @property
    def reached(self) -> int:
        """The least depth of the grid that keeps 94 %."""
        return next(row.depth for row in self.rows if row.retained >= SHARE)

    def retained(self, depth: float) -> float:
        """What a depth keeps, interpolated between those of the grid."""
        depths = [row.depth for row in self.rows]
        return float(np.interp(depth, depths, [row.retained for row in self.rows]))

    def beats(self, other: Retained) -> bool | None:
        """Whether the full depth is better by more than the spread over its seeds, or the other's.

        None where it has one seed alone, and so no spread.
        """
        full = self.rows[-1]
        if full.seeds < 2:
            return None
        return full.accuracy - other.accuracy > max(full.spread, other.spread)


def scored(rows: Sequence[Row]) -> list[Scored]:
    """Accuracies of rows of fine-tuning; methods other than keeping the first are left out."""
    return [
        Scored(row.task, row.model, row.depth, row.accuracy) for row in rows if row.method == FIRST
    ]


def pictures(results: Path = RESULTS) -> list[Scored]:
    """Accuracies of the autoencoder of pictures, from a folder of results."""
    rows: list[Pictured] = read_csv(Pictured, results / "pictures_finetuned.csv")
    return [Scored(PICTURES, PICTURED[row.model], row.depth, row.accuracy) for row in rows]


def curves(rows: Sequence[Scored], totals: Mapping[str, int]) -> dict[tuple[str, str], Curve]:
    """Curves by task and model.

    Args:
        rows: Of fine-tuning.
        totals: Blocks of each model; one whose full depth is not among the rows, or has learnt
            nothing, has no curve.
    """
    cells: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[row.task, row.model][row.depth].append(row.accuracy)
    return {
        (task, model): Curve(
            [
                Retained(
                    task,
                    model,
                    depth,
                    len(values),
                    round(float(np.mean(values)), 4),
                    round(max(values) - min(values), 4),
                    round(float(np.mean(values) / np.mean(depths[max(depths)])), 4),
                )
                for depth, values in sorted(depths.items())
            ]
        )
        for (task, model), depths in cells.items()
        # Of a score at or below 0, such as an R2, there is no share.
        if totals[model] in depths and np.mean(depths[totals[model]]) > 0
    }


def measured() -> dict[tuple[str, str], Curve]:
    """The curves of all committed results."""
    return curves([*scored(committed()), *pictures()], blocks())


def blocks() -> dict[str, int]:
    """Blocks of each model of ``models.yaml``."""
    return {name: int(entry["depth"]) for name, entry in models().items()}


def matters(found: dict[tuple[str, str], Curve], task: str, model: str) -> bool | None:
    """Whether depth matters: the full model beats one block, and random weights at full depth.

    None where too little was run to tell.
    """
    curve, control = found[task, model], found.get((task, model + CONTROL))
    if control is None or curve.rows[0].depth != 1:
        return None
    beats = (curve.beats(curve.rows[0]), curve.beats(control.rows[-1]))
    return False if False in beats else None if None in beats else True
