from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from terratorch_simpler.report import probe_figure, report_files
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.probe import Probe
from terratorch_simpler.results.wording import (
    probe_columns,
    probe_rows,
    probe_sentence,
    warnings_of,
    with_probe,
)
from tests.conftest import MakePlan

# Frozen features of the last blocks are often worse than those before.
SCORES = [0.9, 0.30, 0.70, 0.75, 0.8, 0.6]
OLD = Path(__file__).parent / "data" / "plan_with_probe_of_full_depth.json"


def make(by_layer: list[float] = SCORES, **changes: Any) -> Probe:
    values = dict(enumerate(by_layer))
    fields: dict[str, Any] = {
        "backbone": "b",
        "task": "segmentation",
        "metric": "mIoU",
        "scores": values,
        "others": {"pixel accuracy": values},
        "penalties": dict.fromkeys(values, 0.1),
        "train_tiles": 48,
        "val_tiles": 24,
        "reference": "best",
    }
    return Probe(**fields | changes)


def sure(by_layer: list[float] = SCORES, **changes: Any) -> Probe:
    """With what resamples of the validation tiles say."""
    fields: dict[str, Any] = {
        "errors": dict(enumerate([0.2, 0.1, 0.06, 0.06, 0.0, 0.05])),
        "depth_shares": {2: 0.25, 3: 0.5, 4: 0.25},
        "depth_interval": (2, 4),
    }
    return make(by_layer, **fields | changes)


def test_the_smallest_depth_within_one_standard_error_of_the_best() -> None:
    """A depth that is worse than one before can have an error large enough."""
    assert make().within_error is None
    assert make().said is None
    assert sure().within_error == 3
    wide = dict.fromkeys(range(6), 0.11) | {4: 0.0}
    assert sure(errors=wide).within_error == 2
    assert sure(errors=dict.fromkeys(range(6), 0.0)).within_error == 4
    assert (sure().said, sure(asked_share=0.8).said, make(asked_share=1.0).said) == (3, 2, 4)


def test_what_resamples_say_is_shown() -> None:
    assert probe_sentence(sure()) == (
        "94% of the best mIoU is reached at depth 4; best at 4; within one standard error of the "
        "best at 3 (50% of resamples choose it, 95% of them depths 2 to 4)."
    )
    assert probe_sentence(sure(asked_share=0.8)) == (
        "80% of the best mIoU is reached at depth 2 (25% of resamples choose it, 95% of them "
        "depths 2 to 4); best at 4; within one standard error of the best at 3."
    )
    columns = ["layer", "mIoU", "of the best", "standard error", "pixel accuracy", ""]
    assert probe_columns(sure()) == columns
    assert probe_rows(sure())[3] == ("3", "0.750", "93.8%", "0.060", "0.750", "within one error")
    notes = [row[-1] for row in probe_rows(sure(asked_share=0.925))]
    assert notes[3:5] == ["92.5% reached, within one error", "94% reached, best"]
    row = list(csv.DictReader(io.StringIO(sure().to_csv())))[1]
    assert (row["standard_error"], row["pixel_accuracy"]) == ("0.1", "0.3")
    data = json.loads(sure().to_json())
    assert (data["within_error"], data["depth_interval"]) == (3, [2, 4])
    (axes,) = probe_figure(sure()).axes
    (bars,) = axes.containers
    assert bars.has_yerr  # type: ignore[attr-defined]
    assert "within one standard error of the best: depth 3" in axes.get_legend_handles_labels()[1]


def test_the_smallest_depth_with_a_share_of_the_best_score() -> None:
    """Layer 0 is no depth, however good it is."""
    probe = make()
    assert (probe.depth, probe.full, probe.whole) == (5, 0.6, 0.8)
    assert probe.reaches() == 4
    assert probe.reaches(0.87) == 2
    assert probe.reaches(1.0) == 4
    assert probe.share(3) == pytest.approx(0.9375)


def test_records_that_do_not_say_compare_with_the_full_depth() -> None:
    text = OLD.read_text()
    plan = PruningPlan.from_json(text, OLD.name)
    assert plan.probe is not None
    assert plan.probe.reference == "full"
    assert plan.to_json() == text
    assert probe_sentence(plan.probe) == (
        "Chosen without labels: 10 (105% of it); the probe says 94% of the full depth's mIoU is "
        "reached at depth 2; best at 6."
    )
    rows = probe_rows(plan.probe)
    assert (rows[2][2], rows[6][2], rows[12][2]) == ("97.7%", "144.2%", "100.0%")
    assert [row[-1] for row in rows if row[-1]] == ["94% reached", "best", "chosen"]
    page = report_files(plan, OLD.name, {})["report.html"].decode()
    assert ">of the full depth</th>" in page
    assert probe_sentence(plan.probe).replace("'", "&#39;") in page
    assert "share_of_full" in plan.probe.to_csv()
    (axes,) = probe_figure(plan.probe).axes
    labels = axes.get_legend_handles_labels()[1]
    assert labels[0] == "94% of the full depth's score: depth 2"


def test_the_best_depth_is_the_smallest_of_equal_ones() -> None:
    assert make().best == 4
    assert make([0.9, 0.5, 0.6, 0.6]).best == 2


@pytest.mark.parametrize(
    ("reference", "scores", "sentence"),
    [
        ("best", [0.1, -2.0, 0.0, -0.3], "the best R2 is 0.000 (depth 2), of which there is no"),
        ("best", [0.1, -2.0, -0.1, -0.3], "the best R2 is -0.100 (depth 2), of which there is no"),
        ("full", [0.1, -2.0, 0.2, 0.0], "the full depth's R2 is 0.000, of which there is no"),
        ("full", [0.1, -2.0, 0.2, -0.3], "the full depth's R2 is -0.300, of which there is no"),
    ],
)
def test_there_is_no_share_of_nothing(reference: str, scores: list[float], sentence: str) -> None:
    probe = make(scores, metric="R2", chosen=2, reference=reference)
    assert probe.reaches() is None
    assert probe.share(2) is None
    said = probe_sentence(probe)
    assert sentence in said
    assert ("best at depth 2 (0.200)" in said) == (reference == "full")
    assert {row[2] for row in probe_rows(probe)} == {"-"}
    assert json.loads(probe.to_json())["reached"] is None
    probe_figure(probe)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.01])
def test_shares_that_are_none(share: float) -> None:
    with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
        make().reaches(share)


def test_the_sentence_compares_with_the_plan() -> None:
    assert probe_sentence(make()) == (
        "94% of the best mIoU is reached at depth 4; best at 4; too few labelled validation tiles "
        "to say how sure this is."
    )
    assert probe_sentence(make(chosen=2)) == (
        "Chosen without labels: 2 (87% of it); the probe says 94% of the best mIoU is reached at "
        "depth 4; best at 4; too few labelled validation tiles to say how sure this is."
    )
    notes = [row[-1] for row in probe_rows(make([0.9, 0.3, 0.76, 0.7, 0.8, 0.7], chosen=2))]
    assert notes == ["", "", "chosen, 94% reached", "", "best", ""]
    assert probe_columns(make()) == ["layer", "mIoU", "of the best", "pixel accuracy", ""]


def test_csv_and_json_hold_every_layer() -> None:
    rows = list(csv.DictReader(io.StringIO(make().to_csv())))
    assert list(rows[0]) == ["layer", "mIoU", "share_of_best", "pixel_accuracy", "penalty"]
    assert [float(row["mIoU"]) for row in rows] == SCORES
    assert float(rows[3]["share_of_best"]) == pytest.approx(0.9375)
    data = json.loads(make(chosen=3).to_json())
    assert data["scores"] == {str(layer): score for layer, score in enumerate(SCORES)}
    assert (data["depth"], data["best"], data["reached"], data["chosen"]) == (5, 4, 4, 3)
    assert data["reference"] == "best"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": {0: 1.0}}, "needs mIoU of layers 0 to the last"),
        ({"scores": {0: 1.0, 2: 1.0}}, "needs mIoU of layers 0 to the last"),
        ({"penalties": {0: 1.0}}, "needs penalties of layers"),
        ({"others": {"F1": {0: float("nan")} | dict.fromkeys(range(1, 6), 0.0)}}, "must be finite"),
        ({"chosen": 6}, "chosen must be 1 to 5, got 6"),
        ({"reference": "last"}, "reference must be one of best, full, got 'last'"),
        ({"asked_share": 1.5}, "share must be above 0 and at most 1, got 1.5"),
        ({"depth_shares": None}, "errors, depth_shares and depth_interval of a probe go together"),
        ({"errors": None}, "errors, depth_shares and depth_interval of a probe go together"),
        ({"errors": {4: 0.0}}, "needs errors of layers 0 to the last"),
        ({"errors": dict.fromkeys(range(6), 0.1)}, "errors must be 0 at the best depth 4"),
        ({"errors": dict.fromkeys(range(6), 0.0) | {1: -0.1}}, "and none less: got"),
        ({"depth_shares": {0: 1.0}}, "depth_shares must be of depths 1 to 5"),
        ({"depth_shares": {1: 0.5}}, "depth_shares must be of depths 1 to 5"),
        ({"depth_interval": (3, 2)}, "depth_interval must be of depths 1 to 5"),
        ({"depth_interval": (2, 6)}, "depth_interval must be of depths 1 to 5"),
    ],
)
def test_a_probe_agrees_with_itself(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sure(**changes)


# In a plan, and in its report.


@pytest.fixture
def probed(make_plan: MakePlan) -> PruningPlan:
    plan = make_plan()
    scores = [0.1 * layer for layer in range(1, 14)]
    errors = dict.fromkeys(range(13), 0.05) | {12: 0.0}
    probe = sure(scores, chosen=plan.depth, errors=errors)
    return plan.model_copy(update={"probe": probe})


def test_a_plan_keeps_its_probe(probed: PruningPlan) -> None:
    again = PruningPlan.from_json(probed.to_json(), "plan.json")
    assert again.probe == probed.probe
    assert again == probed


@pytest.mark.parametrize(
    ("interval", "warned"),
    [
        ((3, 4), []),
        ((4, 6), []),
        ((5, 7), ["labels say 5 to 7 of 12 blocks, the tiles alone say 4"]),
        ((2, 2), ["labels say 2 of 12 blocks, the tiles alone say 4"]),
    ],
)
def test_labels_and_tiles_that_disagree_by_more_than_the_interval_are_named(
    probed: PruningPlan, interval: tuple[int, int], warned: list[str]
) -> None:
    assert probed.probe is not None
    probe = replace(probed.probe, depth_interval=interval)
    plan = probed.model_copy(update={"probe": None, "warnings": ["cloudy"]})
    assert with_probe(plan, probe).warnings == ["cloudy", *warned]
    assert with_probe(with_probe(plan, probe), probe) == with_probe(plan, probe)
    # A plan that does not say its warnings says what follows from it.
    silent = with_probe(plan.model_copy(update={"warnings": None}), probe)
    assert silent.warnings is None
    assert [said for said in warnings_of(silent) if said.startswith("labels")] == warned
    # A plan of other blocks than the first has nothing to compare.
    assert with_probe(plan, replace(probe, chosen=None)).warnings == ["cloudy"]


def test_a_plan_without_a_probe_is_written_as_before(make_plan: MakePlan) -> None:
    text = make_plan().to_json()
    assert "probe" not in text
    assert PruningPlan.from_json(text, "plan.json").probe is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": {"0": 1.0, "1": 2.0}}, "pixel accuracy"),
        ({"scores": dict.fromkeys(map(str, range(13)), "high")}, "probe.scores.0"),
    ],
)
def test_a_broken_probe_is_refused(probed: PruningPlan, change: Any, message: str) -> None:
    data = json.loads(probed.to_json())
    data["probe"] |= change
    with pytest.raises(ValueError, match=f"plan.json is not a valid plan: .*{message}"):
        PruningPlan.from_json(json.dumps(data), "plan.json")


def test_the_probe_of_another_depth_is_refused(probed: PruningPlan) -> None:
    data = json.loads(probed.to_json())
    data["probe"] |= json.loads(json.dumps(make_fields()))
    with pytest.raises(ValueError, match="the probe has 6 layers, the backbone 13"):
        PruningPlan.from_json(json.dumps(data), "plan.json")


def make_fields() -> dict[str, Any]:
    probe = make(chosen=None)
    names = ("scores", "others", "penalties", "chosen", "errors", "depth_shares", "depth_interval")
    return {name: getattr(probe, name) for name in names}


def test_the_report_has_a_section_where_there_is_a_probe(
    probed: PruningPlan, make_plan: MakePlan
) -> None:
    page = report_files(probed, "plan.json", {})["report.html"].decode()
    assert probed.probe is not None
    assert probe_sentence(probed.probe).replace("'", "&#39;") in page
    assert "Labels: mIoU" in page
    assert ">mIoU</th>" in page
    assert b"What labels say" not in report_files(make_plan(), "plan.json", {})["report.html"]


def test_marks_of_the_figure() -> None:
    (axes,) = probe_figure(make(chosen=3)).axes
    labels = axes.get_legend_handles_labels()[1]
    assert labels == [
        "94% of the best score: depth 4",
        "chosen without labels: depth 3",
    ]
    (plain,) = probe_figure(make([0.0, -1.0, -2.0])).axes
    assert plain.get_legend() is None
