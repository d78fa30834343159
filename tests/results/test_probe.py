from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from terratorch_simpler.report import probe_figure, report_files
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.probe import Probe
from terratorch_simpler.results.wording import probe_rows, probe_sentence
from tests.conftest import MakePlan

SCORES = [0.9, 0.30, 0.70, 0.65, 0.76, 0.8]


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
    }
    return Probe(**fields | changes)


def test_the_smallest_depth_with_a_share_of_the_full_depths_score() -> None:
    """Layer 0 is no depth, however good it is."""
    probe = make()
    assert (probe.depth, probe.full) == (5, 0.8)
    assert probe.reaches() == 4
    assert probe.reaches(0.87) == 2
    assert probe.reaches(1.0) == 5
    assert probe.share(4) == pytest.approx(0.95)


def test_the_best_depth_is_the_smallest_of_equal_ones() -> None:
    assert make().best == 5
    assert make([0.9, 0.5, 0.6, 0.6]).best == 2


@pytest.mark.parametrize("full", [0.0, -0.3])
def test_there_is_no_share_of_nothing(full: float) -> None:
    probe = make([0.1, -2.0, 0.2, full], metric="R2", chosen=2)
    assert probe.reaches() is None
    assert probe.share(2) is None
    said = probe_sentence(probe)
    assert f"the full depth's R2 is {full:.3f}, of which there is no share" in said
    assert "best at depth 2 (0.200)" in said
    assert {row[2] for row in probe_rows(probe)} == {"-"}
    assert json.loads(probe.to_json())["reached"] is None
    probe_figure(probe)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.01])
def test_shares_that_are_none(share: float) -> None:
    with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
        make().reaches(share)


def test_the_sentence_compares_with_the_plan() -> None:
    assert probe_sentence(make()) == (
        "94% of the full depth's mIoU is reached at depth 4; best at 5."
    )
    assert probe_sentence(make(chosen=2)) == (
        "Chosen without labels: 2 (87% of it); the probe says 94% of the full depth's mIoU is "
        "reached at depth 4; best at 5."
    )
    notes = [row[-1] for row in probe_rows(make(chosen=4))]
    assert notes == ["", "", "", "", "chosen, 94% reached", "best"]


def test_csv_and_json_hold_every_layer() -> None:
    rows = list(csv.DictReader(io.StringIO(make().to_csv())))
    assert list(rows[0]) == ["layer", "mIoU", "share_of_full", "pixel_accuracy", "penalty"]
    assert [float(row["mIoU"]) for row in rows] == SCORES
    assert float(rows[4]["share_of_full"]) == pytest.approx(0.95)
    data = json.loads(make(chosen=3).to_json())
    assert data["scores"] == {str(layer): score for layer, score in enumerate(SCORES)}
    assert (data["depth"], data["best"], data["reached"], data["chosen"]) == (5, 5, 4, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": {0: 1.0}}, "needs mIoU of layers 0 to the last"),
        ({"scores": {0: 1.0, 2: 1.0}}, "needs mIoU of layers 0 to the last"),
        ({"penalties": {0: 1.0}}, "needs penalties of layers"),
        ({"others": {"F1": {0: float("nan")} | dict.fromkeys(range(1, 6), 0.0)}}, "must be finite"),
        ({"chosen": 6}, "chosen must be 1 to 5, got 6"),
    ],
)
def test_a_probe_agrees_with_itself(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


# In a plan, and in its report.


@pytest.fixture
def probed(make_plan: MakePlan) -> PruningPlan:
    plan = make_plan()
    scores = [0.1 * layer for layer in range(1, 14)]
    return plan.model_copy(update={"probe": make(scores, chosen=plan.depth)})


def test_a_plan_keeps_its_probe(probed: PruningPlan) -> None:
    again = PruningPlan.from_json(probed.to_json(), "plan.json")
    assert again.probe == probed.probe
    assert again == probed


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
    return {name: getattr(probe, name) for name in ("scores", "others", "penalties", "chosen")}


def test_the_report_has_a_section_where_there_is_a_probe(
    probed: PruningPlan, make_plan: MakePlan
) -> None:
    page = report_files(probed, "plan.json", {})["report.html"].decode()
    assert probed.probe is not None
    assert probe_sentence(probed.probe).replace("'", "&#39;") in page
    assert page.count("data:image/png") == 3
    assert "<th>mIoU</th>" in page
    assert b"What labels say" not in report_files(make_plan(), "plan.json", {})["report.html"]


def test_marks_of_the_figure() -> None:
    (axes,) = probe_figure(make(chosen=3)).axes
    labels = axes.get_legend_handles_labels()[1]
    assert labels == [
        "94% of the full depth's score: depth 4",
        "chosen without labels: depth 3",
    ]
    (plain,) = probe_figure(replace(make([0.0, -1.0, -2.0]))).axes
    assert plain.get_legend() is None
