from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from torch import nn

from studies.measure import frontier
from studies.measure.compose import Folders
from studies.measure.methods import FIRST
from studies.measure.run import Cell
from studies.records import Choice, Priced, Probed, Row
from studies.show.compare import compare
from studies.show.curves import curves, matters, scored
from studies.show.figure import retention_figure
from studies.show.page import filled, pages
from studies.show.retention import judge, labelled, ranked
from studies.tables import complete, read_csv
from tests.studies.rows import FOLDERS, row_of


def test_what_a_depth_retains() -> None:
    """By hand: two seeds, four depths, and what each way of choosing keeps of the full depth."""
    at = {1: (0.5, 0.6), 2: (0.7, 0.7), 4: (0.78, 0.8), 8: (0.8, 0.8)}
    rows = [
        replace(row_of(Cell("task", model, FIRST, depth, seed)), accuracy=value * factor)
        for model, factor in (("model", 1.0), ("model_random", 0.5))
        for depth, values in at.items()
        for seed, value in enumerate(values)
    ]
    other = row_of(Cell("task", "model", "lora", 8, 0))
    found = curves(scored([*rows, other]), {"model": 8, "model_random": 8})
    assert not curves(scored(rows), {"model": 9, "model_random": 9})
    curve = found["task", "model"]
    assert [row.depth for row in curve.rows] == [1, 2, 4, 8]
    assert curve.rows[0].accuracy == pytest.approx(0.55)
    assert curve.rows[0].spread == pytest.approx(0.1)
    assert (curve.total, curve.reached) == (8, 4)
    assert curve.retained(3) == pytest.approx((0.875 + 0.9875) / 2)
    assert matters(found, "task", "model")
    assert not matters(found, "task", "model_random")
    chosen = [
        Choice("task", "model", "tokens", "simpler", 64, depth, 5, 10, 0.1) for depth in (2, 4)
    ]
    figure = retention_figure({("task", "model"): curve}, list(judge(curve, chosen)), [])
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == ["task"]
    judged = {row.criterion: row for row in judge(curve, chosen)}
    assert list(judged) == ["simpler", "half", "third", "quarter", "paper_share", "random_depth"]
    assert (judged["simpler"].depth, judged["simpler"].beyond) == (3.0, -1.0)
    assert judged["simpler"].retained == pytest.approx((0.875 + 0.9875) / 2, abs=1e-4)
    assert judged["simpler"].worst == 0.875
    assert (judged["simpler"].ends, judged["simpler"].agree) == (0, 0.5)
    depths = [judged[name].depth for name in ("half", "third", "quarter", "paper_share")]
    assert depths == [4, 3, 2, 2]
    assert judged["half"].agree is None
    assert (judged["random_depth"].lowest, judged["random_depth"].highest) == (1, 7)


def test_tables_are_put_between_their_comments() -> None:
    text = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"
    made = filled(text, {"x": "| new |\n"})
    assert made == "a\n<!-- begin x -->\n| new |\n<!-- end x -->\nb\n"
    with pytest.raises(ValueError, match="no place for the table y"):
        filled(text, {"y": ""})


def test_the_pages_show_the_committed_results() -> None:
    for path, page in pages().items():
        assert path.read_text() == page, f"{path.name}: run python -m studies.show.retention"


def test_the_probe_orders_the_depths() -> None:
    at = {1: 0.5, 2: 0.7, 4: 0.8}
    rows = [
        replace(row_of(Cell("task", "model", FIRST, depth, 0)), accuracy=value)
        for depth, value in at.items()
    ]
    scores = [0.1, 0.3, 0.6, 0.58, 0.61]
    probed = [
        Probed("task", "model", depth, "accuracy", score, 0.02)
        for depth, score in enumerate(scores)
    ]
    found = curves(scored(rows), {"model": 4})
    (rank,) = ranked(found, probed)
    assert (rank.depths, rank.correlation) == (3, 1.0)
    assert not list(ranked(found, probed[:3]))
    # What the task is judged by goes before what the probe is.
    others = [replace(row, metric="mIoU", score=-row.score, error=None) for row in probed]
    assert next(ranked(found, [*probed, *others])).correlation == -1
    chosen = {row.rule: (row.depth, row.retained) for row in labelled(found, [*probed, *others])}
    assert chosen == {
        "within one standard error": (2, 0.875),
        "98 % of the best": (2, 0.875),
        "94 % of the best": (2, 0.875),
        "94 % of the full depth's": (2, 0.875),
    }
    sure = [replace(row, error=0.001) for row in probed]
    assert next(labelled(found, sure)).depth == 4
    fewer = [replace(row, score=row.score - 0.05 * (row.depth == 4)) for row in sure]
    assert [row.depth for row in labelled(found, fewer)] == [2, 2, 2, 2]


def test_the_frontier_goes_on_with_the_next_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Cell] = []

    def train(cell: Cell, folders: Folders) -> tuple[Row, nn.Module]:
        del folders
        trained.append(cell)
        model = nn.Conv2d(3, 2, 1)
        model.requires_grad_(cell.method != "frozen")
        return row_of(cell), model

    monkeypatch.setattr(frontier, "train", train)
    monkeypatch.setattr(frontier, "RESULTS", tmp_path)
    study = yaml.safe_load(frontier.ARMS.read_text())
    file = tmp_path / "study.yaml"
    for seeds in ([0], [0, 1]):
        file.write_text(yaml.safe_dump({**study, "seeds": seeds}, sort_keys=False))
        frontier.main(FOLDERS, study=file)
    rows: list[Priced] = read_csv(Priced, tmp_path / "frontier.csv")
    assert [(row.arm, row.seed) for row in rows] == [
        (arm, seed) for seed in (0, 1) for arm in study["arms"]
    ]
    assert len(trained) == len(rows)
    assert {row.arm: row.trained for row in rows}["head alone"] == 0
    assert all(row.inference_ms > 0 for row in rows)
    assert (tmp_path / "frontier.svg").stat().st_size > 0


def test_a_rerun_is_compared_with_the_spread_over_seeds() -> None:
    """Of its cell, but no less than the median over the cells of its task."""
    committed = [row_of(Cell("eurosat", "dinov2", FIRST, 4, seed)) for seed in (0, 1, 2)]
    same, other = (
        row_of(Cell("eurosat", "dinov2", FIRST, 4, 1)),
        row_of(Cell("x", "y", FIRST, 4, 1)),
    )
    far = replace(same, accuracy=same.accuracy + 0.3)
    found = list(compare([same, far, other], committed))
    assert [row.agrees for row in found] == [True, False]
    assert found[0].spread == pytest.approx(0.2)
    close = [replace(row, depth=8, accuracy=0.5) for row in committed]
    closer = [replace(row, depth=12, accuracy=0.5) for row in committed]
    assert next(compare([close[0]], committed + close)).spread == pytest.approx(0.1)
    assert next(compare([close[0]], committed + close + closer)).spread == 0
    alone = [replace(close[0], seed=1)]
    with pytest.raises(ValueError, match="none of these cells"):
        list(compare(alone, alone))
    assert str(found[1]).endswith("OUTSIDE")
    with pytest.raises(ValueError, match="none of these cells"):
        list(compare([other], committed))


def test_tables_are_completed_case_by_case(tmp_path: Path) -> None:
    table, asked = tmp_path / "table.csv", []

    def make(task: str, model: str) -> list[Probed]:
        asked.append((task, model))
        return [Probed(task, model, depth, "accuracy", 0.5, None) for depth in (0, 1)]

    first = list(complete(Probed, table, [("a", "m")], make))
    assert [row.depth for row in first[0]] == [0, 1]
    runs = complete(Probed, table, [("a", "m"), ("b", "m"), ("b", "n")], make)
    next(runs)
    assert [row.task for row in read_csv(Probed, table)] == ["a", "a", "b", "b"]
    assert {row.error for row in read_csv(Probed, table)} == {None}
    assert [rows[0].model for rows in runs] == ["n"]
    assert asked == [("a", "m"), ("b", "m"), ("b", "n")]
