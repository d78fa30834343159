"""How much accuracy each depth keeps, and what each criterion would have kept of it.

``python -m studies.show.retention`` reads the tables of ``results/``, writes ``retention.csv``,
``criteria.csv``, ``probe_rank.csv``, ``labelled.csv`` and ``retention.svg`` there, and puts all
tables into ``docs/evidence.md`` and ``README.md``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from studies.measure.compose import CONTROL, SAME_TILES
from studies.records import Choice, Judged, Labelled, Probed, Ranked, Retained
from studies.show.curves import Curve, matters, measured
from studies.tables import RESULTS, read_csv, to_csv
from terratorch_simpler.files import write_files
from terratorch_simpler.results.probe import SHARE, first_with, first_within_error

CONSTANTS = {"half": 1 / 2, "third": 1 / 3, "quarter": 1 / 4, "paper_share": 5 / 24}
"""Shares of the blocks, whatever the tiles; the last is what the paper keeps of Prithvi-EO-2."""
RANDOM = "random_depth"
By = Mapping[int, float]
RULES: dict[str, Callable[[By, By], int]] = {
    "within one standard error": first_within_error,
    "98 % of the best": lambda scores, _: first_with(scores, 0.98 * max(scores.values())),
    "94 % of the best": lambda scores, _: first_with(scores, SHARE * max(scores.values())),
    "94 % of the full depth's": lambda scores, _: first_with(scores, SHARE * scores[max(scores)]),
}
"""How the frozen probe can choose a depth, from scores by depth and their standard errors."""


def judge(curve: Curve, choices: Sequence[Choice]) -> Iterator[Judged]:
    """What every criterion keeps by this curve, and the baselines that look at no tile."""
    task, model, total = curve.rows[0].task, curve.rows[0].model, curve.total
    drawn: dict[tuple[str, str, int], list[int]] = defaultdict(list)
    for choice in choices:
        if (choice.task, choice.model) == (task, model):
            drawn[choice.pooling, choice.criterion, choice.tiles] += [choice.depth] * choice.times
    for name, share in CONSTANTS.items():
        drawn["", name, 0] = [max(1, round(total * share + 1e-9))]
    drawn["", RANDOM, 0] = list(range(1, total))
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
            round(float(np.mean([depth in (1, total - 1, total) for depth in depths])), 4),
            round(max(Counter(depths).values()) / len(depths), 4) if tiles else None,
            round(float(np.mean(depths)) - curve.reached, 2),
        )


def ranked(found: dict[tuple[str, str], Curve], probed: Sequence[Probed]) -> Iterator[Ranked]:
    """How well the frozen probe orders the depths of the grid, by the metric of the task."""
    from scipy.stats import spearmanr

    for (task, model), curve in found.items():
        if model.endswith(CONTROL):
            continue
        of = [row for row in probed if (row.task, row.model) == (task, model)]
        # The metric of the task comes last where it is not the probe's own.
        scores = {row.depth: row.score for row in of if row.metric == of[-1].metric}
        depths = [row.depth for row in curve.rows]
        if set(depths) <= set(scores):
            correlation = spearmanr(
                [row.accuracy for row in curve.rows], [scores[depth] for depth in depths]
            ).statistic
            yield Ranked(task, model, len(depths), round(float(correlation), 4))


def labelled(found: dict[tuple[str, str], Curve], probed: Sequence[Probed]) -> Iterator[Labelled]:
    """What the frozen probe chooses by each rule, and what that keeps after fine-tuning."""
    for (task, model), curve in found.items():
        of = {
            row.depth: (row.score, row.error)
            for row in probed
            if (row.task, row.model) == (task, model) and row.error is not None and row.depth > 0
        }
        if model.endswith(CONTROL) or not of:
            continue
        scores = {depth: score for depth, (score, _) in of.items()}
        errors = {depth: error for depth, (_, error) in of.items()}
        for name, rule in RULES.items():
            depth = rule(scores, errors)
            kept = round(curve.retained(depth), 4)
            yield Labelled(task, model, name, depth, curve.total, kept)


def all_choices(results: Path = RESULTS) -> list[Choice]:
    """What every criterion chose, from a folder of results; tasks on the same tiles share it."""
    of_layers: list[Choice] = read_csv(Choice, results / "layer_choices.csv")
    same = [
        replace(row, task=task)
        for task, of in SAME_TILES.items()
        for row in of_layers
        if row.task == of
    ]
    return [*read_csv(Choice, results / "choices.csv"), *of_layers, *same]


def main() -> None:
    """Write the tables and the figure, and put them on the page."""
    from studies.show.figure import retention_figure
    from studies.show.page import pages
    from studies.svg import to_svg

    chosen = all_choices()
    probed: list[Probed] = read_csv(Probed, RESULTS / "probed.csv")
    found = measured()
    retained = [row for curve in found.values() for row in curve.rows]
    judged = [row for curve in found.values() for row in judge(curve, chosen)]
    write_files(
        {
            RESULTS / "retention.csv": to_csv(Retained, retained),
            RESULTS / "criteria.csv": to_csv(Judged, judged),
            RESULTS / "probe_rank.csv": to_csv(Ranked, list(ranked(found, probed))),
            RESULTS / "labelled.csv": to_csv(Labelled, list(labelled(found, probed))),
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
