"""Tables of the evidence page about what is chosen from tiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import mean

from studies.measure.choices import TILES
from studies.measure.compose import CONTROL, SAME_TILES
from studies.measure.layers import MOST
from studies.records import Cheaper, Choice, Judged, Labelled, Precision, Signs
from studies.show.curves import Curve, matters
from studies.show.markdown import table

STABLE = ("simpler", "stabilization")
WAYS = 5
"""Columns of a table of ways to choose."""


def criteria(found: dict[tuple[str, str], Curve], judged: Sequence[Judged]) -> str:
    """What every way of choosing keeps on every task, some ways a table."""
    cases = _cases(found)
    parts = []
    for pooling, ways in by_way(judged).items():
        names = list(ways)
        for start in range(0, len(names), WAYS):
            some = {name: ways[name] for name in names[start : start + WAYS]}
            parts.append(_judged(pooling or "no tiles", some, found, cases))
    return "\n".join(parts)


def gallery(found: dict[tuple[str, str], Curve], judged: Sequence[Judged]) -> str:
    """What the default keeps on every task: a row for each kind of plan."""
    of = by_way(judged)["tokens"]["simpler"]
    rows = [
        [
            model,
            task,
            str(of[task, model].tiles),
            "simpler",
            _depths(of[task, model], found[task, model].total),
            f"{of[task, model].retained:.0%}",
            str(found[task, model].rows[-1].seeds),
        ]
        for task, model in _cases(found)
    ]
    columns = ("weights", "task", "tiles", "criterion", "keeps", "accuracy kept", "seeds")
    return table(columns, rows)


def _depths(row: Judged, total: int) -> str:
    """The mean depth over draws of tiles, and the range where there is one."""
    spread = f" ({row.lowest} to {row.highest})" if row.lowest < row.highest else ""
    return f"{row.depth:.3g}{spread} of {total}"


def by_way(judged: Sequence[Judged]) -> dict[str, dict[str, dict[tuple[str, str], Judged]]]:
    """Rows by pooling, way and case: of draws of 512 tiles, or of all where there are fewer."""
    found: dict[str, dict[str, dict[tuple[str, str], Judged]]] = {}
    for row in judged:
        case, ways = (row.task, row.model), found.setdefault(row.pooling, {})
        of = ways.setdefault(row.criterion, {})
        if row.tiles <= MOST and (case not in of or row.tiles > of[case].tiles):
            of[case] = row
    return found


def _cases(found: dict[tuple[str, str], Curve]) -> list[tuple[str, str]]:
    return [key for key in found if not key[1].endswith(CONTROL)]


def _judged(
    pooling: str,
    ways: dict[str, dict[tuple[str, str], Judged]],
    found: dict[tuple[str, str], Curve],
    cases: Sequence[tuple[str, str]],
) -> str:
    """Mean depth, blocks beyond the 94 % depth, and retained accuracy, by task and way."""
    rows = []
    for case in cases:
        cells = [
            f"{of[case].depth:.3g} ({of[case].beyond:+.3g}) {of[case].retained:.0%}"
            for of in ways.values()
        ]
        rows.append([" ".join(case) + ("*" if matters(found, *case) else ""), *cells])
    return table([pooling, *ways], rows)


def rules(found: dict[tuple[str, str], Curve], judged: Sequence[Judged]) -> str:
    """Every way of choosing over all tasks, those where depth matters, and the others."""
    cases = _cases(found)
    deep = [case for case in cases if matters(found, *case)]
    others = [case for case in cases if case not in deep]
    rows = []
    for pooling, ways in by_way(judged).items():
        for name, of in ways.items():
            agree = [of[case].agree for case in cases]
            same = [share for share in agree if share is not None]
            rows.append(
                [
                    f"{name}, on means" if pooling == "mean" else name,
                    *_summary([of[case] for case in deep], found),
                    *_summary([of[case] for case in others], found),
                    f"{mean(of[case].ends for case in cases):.0%}",
                    f"{mean(same):.0%}" if same else "",
                ]
            )
    header = [
        f"{what} {where}" for where in ("*", "others") for what in ("blocks", "kept", "worst")
    ]
    return table(["", *header, "at an end", "agree"], rows)


def _summary(rows: Sequence[Judged], found: dict[tuple[str, str], Curve]) -> list[str]:
    """Mean share of the blocks, mean share of accuracy, and the worst of any draw."""
    if not rows:
        return ["", "", ""]
    blocks = mean(row.depth / found[row.task, row.model].total for row in rows)
    kept = mean(row.retained for row in rows)
    return [f"{blocks:.0%}", f"{kept:.0%}", f"{min(row.worst for row in rows):.0%}"]


def labels(read: Sequence[Labelled], found: dict[tuple[str, str], Curve]) -> str:
    """The rules by which the frozen probe chooses, over all tasks and those where depth matters."""
    rows = []
    for rule in dict.fromkeys(row.rule for row in read):
        cells = []
        of = [row for row in read if row.rule == rule]
        for some in (of, [row for row in of if matters(found, row.task, row.model)]):
            cells += [
                f"{mean(row.depth / row.total for row in some):.0%}",
                f"{mean(row.retained for row in some):.1%}",
                f"{min(row.retained for row in some):.1%}",
            ]
        rows.append([rule, *cells])
    header = [f"{what}{where}" for where in ("", " *") for what in ("blocks", "kept", "worst")]
    return table(["rule", *header], rows)


def signs(read: Sequence[Signs]) -> str:
    """What tiles alone show of a backbone, trained or not, and fed as trained or not."""
    rows = [
        [
            row.task,
            row.model,
            row.fed,
            f"{row.score:+.4f}",
            f"{row.first_to_last:.2f}",
            *(f"{d:.1f}" for d in (row.dimension_first, row.dimension_most, row.dimension_last)),
            f"{row.contrast:.2f}",
            f"{row.votes:.2f}",
        ]
        for row in read
    ]
    header = ["tiles", "model", "fed", "largest g", "CKA, first to last", "dimension: first"]
    return table([*header, "most", "last", "contrast over first", "spread of votes"], rows)


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


def cheaper(read: Sequence[Cheaper]) -> str:
    """What a quarter of the tokens changes: the depth of all tiles, and of draws of them."""
    rows = [
        [
            row.task,
            row.model,
            row.criterion,
            f"{row.depth} ({row.agree / row.draws:.0%})",
            f"{row.halved} ({row.halved_agree / row.draws:.0%})",
            str(row.tiles),
        ]
        for row in read
    ]
    return table(["tiles", "model", "criterion", "as they are", "halved", "tiles of a draw"], rows)


def _shares(choices: Iterable[Choice]) -> str:
    """Depths by how often they were chosen."""
    ordered = sorted(choices, key=lambda row: -row.times)
    return ", ".join(f"{row.depth}: {row.times / row.shuffles:.0%}" for row in ordered[:3])
