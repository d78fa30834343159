"""Accuracy after fine-tuning against depth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from studies.measure.compose import CONTROL, models
from studies.measure.methods import FIRST
from studies.records import Retained, Row
from terratorch_simpler.results.probe import SHARE


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
        """Whether the full depth is better by more than the spread over seeds; one has none."""
        full = self.rows[-1]
        if min(full.seeds, other.seeds) < 2:
            return None
        return full.accuracy - other.accuracy > max(full.spread, other.spread)


def curves(rows: Sequence[Row], totals: Mapping[str, int]) -> dict[tuple[str, str], Curve]:
    """Curves by task and model.

    Args:
        rows: Of fine-tuning; methods other than keeping the first blocks are left out.
        totals: Blocks of each model; one whose full depth is not among the rows, or has learnt
            nothing, has no curve.
    """
    cells: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.method == FIRST:
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
