"""The tables of the evidence page, from the CSV files of ``results/``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from studies.choices import TILES, Choice
from studies.compose import CONTROL
from studies.frontier import Priced
from studies.methods import FIRST
from studies.retention import Curve, Judged, Ranked, Retained, blocks, curves, matters
from studies.run import Row, committed
from studies.tables import RESULTS, read_csv

PAGE = Path(__file__).parents[1] / "docs" / "evidence.md"
STABLE = ("simpler", "stabilization")
SAME_TILES = ("flood_worldcover", "gewata_treecover")
"""Tasks on the tiles of another: what is chosen without labels is the same."""


def filled(page: str, made: dict[str, str]) -> str:
    """A page with its tables replaced: each stands between two comments that name it.

    Raises:
        ValueError: If the page has no place for one.
    """
    for name, table in made.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
        if begin not in page or end not in page:
            raise ValueError(f"the page has no place for the table {name}")
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        page = re.sub(pattern, lambda _: begin + table + end, page, flags=re.DOTALL)  # noqa: B023
    return page


def tables() -> dict[str, str]:
    """All tables, as Markdown, by name."""
    found = curves(committed(), blocks())
    other: list[Row] = _read(Row, "methods")
    choices: list[Choice] = _read(Choice, "choices")
    return {
        "retention": retention(found),
        "criteria": criteria(found, _read(Judged, "criteria")),
        "premise": premise(found, choices),
        "stability": stability(choices),
        "probe": probe(_read(Ranked, "probe_rank")),
        "methods": methods(found, other),
        "frontier": frontier(_read(Priced, "frontier")),
    }


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
        parts.append(_table(header, rows))
    return "\n".join(parts)


def criteria(found: dict[tuple[str, str], Curve], judged: Sequence[Judged]) -> str:
    """What every way of choosing keeps: mean depth and retained accuracy, from most tiles."""
    cases = [key for key in found if not key[1].endswith(CONTROL)]
    deep = [case for case in cases if matters(found, *case)]
    most: dict[tuple[str, str], dict[tuple[str, str], Judged]] = defaultdict(dict)
    for row in judged:
        case, way = (row.task, row.model), (row.criterion, row.pooling)
        if case in cases and (case not in most[way] or row.tiles > most[way][case].tiles):
            most[way][case] = row
    rows = []
    for (criterion, pooling), by_case in most.items():
        cells = [
            f"{by_case[case].depth:.3g}: {by_case[case].retained:.0%}" if case in by_case else ""
            for case in cases
        ]
        worst = [
            f"{min(by_case[case].retained for case in of if case in by_case):.0%}"
            if any(case in by_case for case in of)
            else ""
            for of in (cases, deep)
        ]
        rows.append([criterion, pooling, *cells, *worst])
    names = [" ".join(case) + ("*" if case in deep else "") for case in cases]
    return _table(["criterion", "pooling", *names, "worst", "worst of *"], rows)


def premise(found: dict[tuple[str, str], Curve], choices: Sequence[Choice]) -> str:
    """The largest g of `simpler` on tokens of most tiles, beside what its depth keeps."""
    rows = []
    for (task, model), of in _most(choices, "simpler").items():
        if task in SAME_TILES:
            continue
        depth = mean(c.depth for c in of for _ in range(c.times))
        score = mean(c.score for c in of for _ in range(c.times))
        curve = found.get((task, model))
        kept = f"{curve.retained(depth):.0%}" if curve and not model.endswith(CONTROL) else ""
        rows.append([task, model, f"{score:+.4f}", f"{depth:.3g}", kept])
    return _table(["tiles", "model", "largest g", "depth", "retained"], rows)


def stability(choices: Sequence[Choice]) -> str:
    """Depths chosen over draws of tiles."""
    by_case: dict[tuple[str, str, str], dict[int, list[Choice]]] = defaultdict(dict)
    for row in choices:
        known = row.task in SAME_TILES or row.model.endswith(CONTROL)
        if row.criterion in STABLE and row.pooling == "tokens" and not known:
            by_case[row.task, row.model, row.criterion].setdefault(row.tiles, []).append(row)
    tiles = sorted({row.tiles for row in choices if row.tiles in TILES})
    rows = []
    for case, by_tiles in by_case.items():
        most = max(by_tiles)
        cells = [_shares(by_tiles[n]) if n in by_tiles and n != most else "" for n in tiles]
        rows.append([*case, *cells, f"{_shares(by_tiles[most])} ({most})"])
    return _table(["tiles", "model", "criterion", *map(str, tiles), "all"], rows)


def probe(ranks: Sequence[Ranked]) -> str:
    """Rank correlation of the frozen probe with fine-tuning."""
    rows = [
        [r.task, r.model, r.depths, f"{r.correlation:.2f}", r.reached, f"{r.retained:.0%}"]
        for r in ranks
    ]
    header = ["task", "model", "depths", "rank correlation", "probe's 94 % at", "retained there"]
    return _table(header, rows)


def methods(found: dict[tuple[str, str], Curve], other: Sequence[Row]) -> str:
    """Other ways to cut at equal depth, beside the first blocks."""
    cells: dict[tuple[str, str, int, str], list[float]] = defaultdict(list)
    for row in other:
        cells[row.task, row.model, row.depth, row.method].append(row.accuracy)
    rows = []
    for (task, model, depth, method), values in cells.items():
        curve = found.get((task, model))
        at = {row.depth: _accuracy(row) for row in curve.rows} if curve else {}
        rows.append([task, model, depth, method, len(values), _spread(values), at.get(depth, "")])
    return _table(["task", "model", "blocks", "method", "seeds", "accuracy", FIRST], rows)


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
        rows.append([arm, _spread([row.accuracy for row in of]), *sizes, _seconds(of), *speed])
    header = ["", "accuracy", "parameters", "trained", "training", "faster in training"]
    return _table([*header, "faster in inference"], rows)


def _most(choices: Sequence[Choice], criterion: str) -> dict[tuple[str, str], list[Choice]]:
    """The choices from most tiles of tokens, by task and model."""
    of = [row for row in choices if (row.criterion, row.pooling) == (criterion, "tokens")]
    most: dict[tuple[str, str], int] = defaultdict(int)
    for row in of:
        most[row.task, row.model] = max(most[row.task, row.model], row.tiles)
    return {
        case: [row for row in of if (row.task, row.model, row.tiles) == (*case, tiles)]
        for case, tiles in most.items()
    }


def _shares(choices: Iterable[Choice]) -> str:
    """Depths by how often they were chosen."""
    ordered = sorted(choices, key=lambda row: -row.times)
    return ", ".join(f"{row.depth}: {row.times / row.shuffles:.0%}" for row in ordered[:3])


def _accuracy(row: Retained) -> str:
    return f"{row.accuracy:.3f}" + (f" ±{row.spread / 2:.3f}" if row.seeds > 1 else "")


def _spread(values: Sequence[float]) -> str:
    half = (max(values) - min(values)) / 2
    return f"{mean(values):.3f}" + (f" ±{half:.3f}" if len(values) > 1 else "")


def _seconds(priced: Sequence[Priced]) -> str:
    return f"{mean(row.seconds for row in priced):.0f} s"


def _read(kind: Any, name: str) -> list[Any]:
    return read_csv(kind, RESULTS / f"{name}.csv")


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"
