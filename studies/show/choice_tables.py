"""Tables of the evidence page about what is chosen from tiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import mean

from studies.measure.choices import TILES
from studies.measure.compose import CONTROL, SAME_TILES
from studies.records import Choice, Judged, Precision, Signs
from studies.show.curves import Curve, matters
from studies.show.markdown import table

STABLE = ("simpler", "stabilization")


def criteria(found: dict[tuple[str, str], Curve], judged: Sequence[Judged]) -> str:
    """What every way of choosing keeps, from most tiles: one table for each pooling."""
    cases = [key for key in found if not key[1].endswith(CONTROL)]
    by_pooling: dict[str, dict[str, dict[tuple[str, str], Judged]]] = {}
    for row in judged:
        case, ways = (row.task, row.model), by_pooling.setdefault(row.pooling, {})
        of = ways.setdefault(row.criterion, {})
        if case not in of or row.tiles > of[case].tiles:
            of[case] = row
    return "\n".join(
        _judged(pooling or "no tiles", ways, found, cases) for pooling, ways in by_pooling.items()
    )


def _judged(
    pooling: str,
    ways: dict[str, dict[tuple[str, str], Judged]],
    found: dict[tuple[str, str], Curve],
    cases: Sequence[tuple[str, str]],
) -> str:
    """Mean depth, blocks beyond the 94 % depth, and retained accuracy, by task and way."""
    deep = [case for case in cases if matters(found, *case)]
    rows = []
    for case in cases:
        cells = [
            f"{of[case].depth:.3g} ({of[case].beyond:+.3g}) {of[case].retained:.0%}"
            for of in ways.values()
        ]
        rows.append([" ".join(case) + ("*" if case in deep else ""), *cells])
    for name, some in (("all", cases), ("those with *", deep)):
        if some:
            worst = [min(of[case].retained for case in some) for of in ways.values()]
            kept = [
                mean(of[case].depth / found[case].total for case in some) for of in ways.values()
            ]
            summary = [
                f"{share:.0%} of blocks, worst {least:.0%}"
                for share, least in zip(kept, worst, strict=True)
            ]
            rows.append([name, *summary])
    return table([pooling, *ways], rows)


def signs(
    found: dict[tuple[str, str], Curve], read: Sequence[Signs], choices: Sequence[Choice]
) -> str:
    """What tiles alone show of a backbone, beside what the depth of `simpler` keeps."""
    chosen = _most(choices, "simpler")
    rows = []
    for row in read:
        case = row.task, row.model
        depths = [c.depth for c in chosen[case] for _ in range(c.times)]
        tasks = [row.task, *(task for task, of in SAME_TILES.items() if of == row.task)]
        kept = [
            f"{mean(found[task, row.model].retained(depth) for depth in depths):.0%} ({task})"
            for task in tasks
            if (task, row.model) in found and not row.model.endswith(CONTROL)
        ]
        dimensions = (row.dimension_first, row.dimension_most, row.dimension_last)
        rows.append(
            [
                *case,
                f"{row.score:+.4f}",
                f"{mean(depths):.3g}",
                ", ".join(kept),
                f"{row.first_to_last:.2f}",
                *(f"{dimension:.1f}" for dimension in dimensions),
            ]
        )
    header = ["tiles", "model", "largest g", "depth", "retained", "CKA, first to last"]
    return table([*header, "dimension: first", "most", "last"], rows)


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


def precisions(read: Sequence[Precision]) -> str:
    """What 16 bits change: the matrix, and the depth of every criterion."""
    by_case: dict[tuple[str, str], list[Precision]] = defaultdict(list)
    for row in read:
        by_case[row.task, row.model].append(row)
    rows = []
    for case, same in by_case.items():
        depths = [
            f"{row.depth}" if row.depth == row.depth_bf16 else f"{row.depth} → {row.depth_bf16}"
            for row in same
        ]
        rows.append([*case, str(same[0].tiles), f"{same[0].difference:.5f}", *depths])
    names = list(dict.fromkeys(row.criterion for row in read))
    return table(["tiles", "model", "number of tiles", "largest difference", *names], rows)


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
