"""Tables of the evidence page about what is chosen from tiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import mean

from studies.choices import TILES, Choice
from studies.compose import CONTROL
from studies.curves import Curve, matters
from studies.markdown import table
from studies.retention import Judged

STABLE = ("simpler", "stabilization")
SAME_TILES = ("flood_worldcover", "gewata_treecover")
"""Tasks on the tiles of another: what is chosen without labels is the same."""


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
    return table(["criterion", "pooling", *names, "worst", "worst of *"], rows)


def premise(found: dict[tuple[str, str], Curve], choices: Sequence[Choice]) -> str:
    """The largest g of `simpler` on tokens of most tiles, beside what its depth keeps."""
    rows = []
    for (task, model), of in _most(choices, "simpler").items():
        if task in SAME_TILES:
            continue
        drawn = [c for c in of for _ in range(c.times)]
        depth, score = mean(c.depth for c in drawn), mean(c.score for c in drawn)
        curve = found.get((task, model))
        kept = ""
        if curve and not model.endswith(CONTROL):
            kept = f"{mean(curve.retained(c.depth) for c in drawn):.0%}"
        rows.append([task, model, f"{score:+.4f}", f"{depth:.3g}", kept])
    return table(["tiles", "model", "largest g", "depth", "retained"], rows)


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
    return table(["tiles", "model", "criterion", *map(str, tiles), "all"], rows)


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
