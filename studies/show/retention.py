"""How much accuracy each depth keeps, and what each criterion would have kept of it.

``python -m studies.show.retention`` reads the tables of ``results/``, writes ``retention.csv``,
``criteria.csv``, ``probe_rank.csv`` and ``retention.svg`` there, and puts all tables into
``docs/evidence.md`` and ``README.md``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from studies.measure.compose import CONTROL
from studies.measure.run import committed
from studies.records import Choice, Judged, Probed, Ranked, Retained
from studies.show.curves import Curve, blocks, curves, matters
from studies.tables import RESULTS, read_csv, to_csv
from terratorch_simpler.files import write_files
from terratorch_simpler.results.probe import SHARE

PAPER = 5 / 24
"""Share of the blocks that the paper keeps of Prithvi-EO-2."""


def judge(curve: Curve, choices: Sequence[Choice]) -> Iterator[Judged]:
    """What every criterion keeps by this curve, and the baselines that look at no tile."""
    task, model, total = curve.rows[0].task, curve.rows[0].model, curve.total
    drawn: dict[tuple[str, str, int], list[int]] = defaultdict(list)
    for choice in choices:
        if (choice.task, choice.model) == (task, model):
            drawn[choice.pooling, choice.criterion, choice.tiles] += [choice.depth] * choice.times
    drawn["", "half", 0] = [total // 2]
    drawn["", "paper_share", 0] = [round(total * PAPER + 1e-9)]
    drawn["", "random_depth", 0] = list(range(1, total))
    for (pooling, criterion, tiles), depths in drawn.items():
        kept = [curve.retained(depth) for depth in depths]
        yield Judged(
            task,
            model,
            pooling,
            criterion,
            tiles,
            round(float(np.mean(depths)), 2),
            min(depths),
            max(depths),
            round(float(np.mean(kept)), 4),
            round(min(kept), 4),
            round(float(np.mean(depths)) - curve.reached, 2),
        )


def ranked(found: dict[tuple[str, str], Curve], probed: Sequence[Probed]) -> Iterator[Ranked]:
    """How well the frozen probe orders the depths of the grid, and which it would keep."""
    from scipy.stats import spearmanr

    for (task, model), curve in found.items():
        if model.endswith(CONTROL):
            continue
        scores = {row.depth: row.score for row in probed if (row.task, row.model) == (task, model)}
        depths = [row.depth for row in curve.rows]
        if not set(depths) <= set(scores):
            continue
        correlation = spearmanr(
            [row.accuracy for row in curve.rows], [scores[depth] for depth in depths]
        ).statistic
        enough = SHARE * scores[curve.total]
        reached = min(depth for depth, score in scores.items() if depth > 0 and score >= enough)
        kept = round(curve.retained(reached), 4)
        yield Ranked(task, model, len(depths), round(float(correlation), 4), reached, kept)


def main() -> None:
    """Write the tables and the figure, and put them on the page."""
    from studies.show.figure import retention_figure
    from studies.show.page import pages
    from studies.svg import to_svg

    chosen: list[Choice] = read_csv(Choice, RESULTS / "choices.csv")
    probed: list[Probed] = read_csv(Probed, RESULTS / "probed.csv")
    found = curves(committed(), blocks())
    retained = [row for curve in found.values() for row in curve.rows]
    judged = [row for curve in found.values() for row in judge(curve, chosen)]
    write_files(
        {
            RESULTS / "retention.csv": to_csv(Retained, retained),
            RESULTS / "criteria.csv": to_csv(Judged, judged),
            RESULTS / "probe_rank.csv": to_csv(Ranked, list(ranked(found, probed))),
            RESULTS / "retention.svg": to_svg(retention_figure(found, judged, probed)),
        },
        overwrite=True,
    )
    write_files(pages(), overwrite=True)
    for (task, model), curve in found.items():
        print(
            f"{task} {model}: 94 % at {curve.reached} of {curve.total}; depth matters: "
            f"{matters(found, task, model)}"
        )


if __name__ == "__main__":
    main()
