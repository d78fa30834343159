"""Plans whose depth labels chose."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from terratorch_simpler.report import report_files
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.wording import decision_sentence, doubts
from tests.conftest import MakePlan

CURVE = [0.1, 0.2, 0.3, 0.5, 0.6, 0.65, 0.66, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5]
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def data(make_plan: MakePlan) -> dict[str, Any]:
    """Depth 6 is best, and depth 5 within one standard error of it."""
    by_layer = {str(layer): score for layer, score in enumerate(CURVE)}
    probe = {
        "backbone": "b",
        "task": "segmentation",
        "metric": "mIoU",
        "scores": by_layer,
        "others": {},
        "penalties": dict.fromkeys(by_layer, 0.1),
        "train_tiles": 48,
        "val_tiles": 24,
        "chosen": None,
        "reference": "best",
        "errors": dict.fromkeys(by_layer, 0.02) | {"6": 0.0},
        "depth_shares": {"4": 0.1, "5": 0.6, "6": 0.3},
        "depth_interval": [4, 6],
    }
    made: dict[str, Any] = json.loads(make_plan().to_json())
    return made | {
        "criterion": "probe",
        "depth": 5,
        "kept_blocks": list(range(5)),
        "scores": {layer: score for layer, score in by_layer.items() if layer != "0"},
        "confidence": 0.6,
        "depth_shares": probe["depth_shares"],
        "depth_interval": [4, 6],
        "stabilizes": None,
        "probe": probe,
    }


def read(data: dict[str, Any]) -> PruningPlan:
    return PruningPlan.from_json(json.dumps(data), "plan.json")


def with_share(data: dict[str, Any]) -> None:
    data["probe"]["asked_share"] = 0.9
    data.update(depth=4, kept_blocks=[0, 1, 2, 3], confidence=0.1)


def test_a_plan_follows_from_its_probe(data: dict[str, Any]) -> None:
    plan = read(data)
    assert read(json.loads(plan.to_json())) == plan
    assert decision_sentence(plan).endswith(
        "criterion probe, the smallest depth within one standard error of the best mIoU on 48 "
        "training and 24 validation tiles, chosen by 60% of resamples."
    )
    assert doubts(plan) == [
        "the labelled validation tiles do not settle depth 5 (60% of resamples choose it, 95% of "
        "them depths 4 to 6)"
    ]
    page = report_files(plan, "plan.json", {})["report.html"].decode()
    assert decision_sentence(plan) in page
    assert "What labels say" in page


def test_a_plan_follows_from_the_share_asked_for(data: dict[str, Any]) -> None:
    with_share(data)
    assert "the smallest depth with 90% of the best mIoU on 48" in decision_sentence(read(data))


def test_what_speaks_against_labels_is_said(data: dict[str, Any]) -> None:
    data["backbone"]["pretrained"] = False
    data["probe"] |= {"asked_share": 1.0, "errors": None}
    data["probe"] |= {"depth_shares": None, "depth_interval": None}
    data |= {"depth": 6, "kept_blocks": list(range(6)), "confidence": None}
    data |= {"depth_shares": {}, "depth_interval": None}
    random, one = doubts(read(data))
    assert "the features of random weights say nothing about the depth" in random
    assert one.startswith("fewer than two labelled validation tiles leave nothing to resample")


def test_features_that_tell_nothing_are_named(data: dict[str, Any]) -> None:
    lower = {layer: score - 1 for layer, score in data["probe"]["scores"].items()}
    data["probe"] |= {"scores": lower, "metric": "R2"}
    data["scores"] = {layer: score for layer, score in lower.items() if layer != "0"}
    assert (
        "frozen features tell nothing of this task (the best R2 is -0.340)" in doubts(read(data))[1]
    )


CONTRADICTIONS: dict[str, tuple[Edit, str]] = {
    "no probe": (lambda d: d.pop("probe"), "needs the record of the probe, which is missing"),
    "other scores": (lambda d: d["scores"].update({"3": 0.9}), "scores are not those of the probe"),
    "layer 0": (lambda d: d["scores"].update({"0": 0.1}), "scores are not those of the probe"),
    "the best depth": (
        lambda d: d.update(depth=6, kept_blocks=list(range(6))),
        "the labels keep the first 5 blocks, kept_blocks says",
    ),
    "other blocks": (
        lambda d: d.update(kept_blocks=[0, 1, 2, 3, 5]),
        "the labels keep the first 5 blocks, kept_blocks says",
    ),
    "another share": (lambda d: d["probe"].update(asked_share=0.5), "keep the first 3 blocks"),
    "smaller errors": (
        lambda d: d["probe"]["errors"].update({"5": 0.001}),
        "the labels keep the first 6 blocks",
    ),
    "another confidence": (lambda d: d.update(confidence=0.7), "confidence are not the probe's"),
    "another interval": (lambda d: d.update(depth_interval=[5, 6]), "are not the probe's"),
    "other shares": (lambda d: d["depth_shares"].update({"7": 0.1}), "are not the probe's"),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_a_plan_that_contradicts_its_probe_is_refused(data: dict[str, Any], what: str) -> None:
    edit, message = CONTRADICTIONS[what]
    data["depth_shares"] = dict(data["depth_shares"])
    edit(data)
    with pytest.raises(ValueError, match=message):
        read(data)
