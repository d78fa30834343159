"""Tables of the evidence page about training: accuracy, the probe beside it, and costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import mean

from studies.measure.compose import CONTROL
from studies.measure.methods import FIRST
from studies.records import Labelled, Priced, Ranked, Retained, Row
from studies.show.curves import Curve, matters
from studies.show.markdown import plus_minus, table


def retention(found: dict[tuple[str, str], Curve]) -> str:
    """Accuracy by depth, one table for all models of one depth."""
    parts = []
    for total in sorted({curve.total for curve in found.values()}):
        of = {key: curve for key, curve in found.items() if curve.total == total}
        depths = sorted({row.depth for curve in of.values() for row in curve.rows})
        rows = []
        for (task, model), curve in of.items():
            at = {row.depth: row for row in curve.rows}
            cells = [_accuracy(at[depth]) if depth in at else "" for depth in depths]
            reached = "" if model.endswith(CONTROL) else curve.reached
            verdict = {True: "yes", False: "no", None: ""}[matters(found, task, model)]
            seeds = sorted({row.seeds for row in curve.rows})
            several = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
            rows.append([task, model, several, *cells, reached, verdict])
        header = ["task", "model", "seeds", *map(str, depths), "94 % at", "depth matters"]
        parts.append(table(header, rows))
    return "\n".join(parts)


def probe(ranks: Sequence[Ranked], labelled: Sequence[Labelled]) -> str:
    """Rank correlation of the frozen probe with fine-tuning, and what each rule chooses."""
    names = list(dict.fromkeys(row.rule for row in labelled))
    at = {(row.task, row.model, row.rule): row for row in labelled}
    rows = []
    for rank in ranks:
        of = [at.get((rank.task, rank.model, name)) for name in names]
        cells = [f"{row.depth}: {row.retained:.0%}" if row else "" for row in of]
        rows.append([rank.task, rank.model, rank.depths, f"{rank.correlation:.2f}", *cells])
    return table(["task", "model", "depths", "rank correlation", *names], rows)


def methods(found: dict[tuple[str, str], Curve], other: Sequence[Row]) -> str:
    """Other ways to cut at equal depth, beside the first blocks."""
    cells: dict[tuple[str, str, int, str], list[float]] = defaultdict(list)
    for row in other:
        cells[row.task, row.model, row.depth, row.method].append(row.accuracy)
    rows = []
    for (task, model, depth, method), values in cells.items():
        curve = found.get((task, model))
        at = {row.depth: _accuracy(row) for row in curve.rows} if curve else {}
        rows.append(
            [task, model, depth, method, len(values), plus_minus(values), at.get(depth, "")]
        )
    return table(["task", "model", "blocks", "method", "seeds", "accuracy", FIRST], rows)


def frontier(priced: Sequence[Priced]) -> str:
    """What every arm costs and gives; times over those of the first arm."""
    arms = {row.arm: [other for other in priced if other.arm == row.arm] for row in priced}
    base = next(iter(arms.values()), [])
    rows = []
    for arm, of in arms.items():
        sizes = [f"{count / 1e6:.1f} M" for count in (of[0].parameters, of[0].trained)]
        speed = [
            f"{mean(getattr(r, what) for r in base) / mean(getattr(r, what) for r in of):.1f}x"
            for what in ("seconds", "inference_ms")
        ]
        seconds = f"{mean(row.seconds for row in of):.0f} s"
        rows.append([arm, plus_minus([row.accuracy for row in of]), *sizes, seconds, *speed])
    header = ["", "accuracy", "parameters", "trained", "training", "faster in training"]
    return table([*header, "faster in inference"], rows)


def _accuracy(row: Retained) -> str:
    return f"{row.accuracy:.3f}" + (f" ±{row.spread / 2:.3f}" if row.seeds > 1 else "")
