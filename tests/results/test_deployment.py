from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from terratorch_simpler.results.deployment import Deployment


@pytest.fixture
def data() -> dict[str, Any]:
    return {
        "schema_version": 1,
        "task": "segmentation",
        "inputs": [
            {
                "name": "image",
                "bands": ["BLUE", "GREEN"],
                "channels": 2,
                "frames": None,
                "height": 224,
                "width": 224,
                "means": [1.0, 2.0],
                "stds": [1.0, 0.5],
            }
        ],
        "no_data": -9999,
        "no_data_replace": 0,
        "output": {"name": "output", "classes": ["farm", "water", "town"], "channels": 3},
        "dynamic_size": False,
        "model": {"name": "prithvi_eo_v2_300", "kept_blocks": [0, 1, 2], "full_depth": 24},
        "trained": True,
        "made_by": {"terratorch-simpler": "0.1.0"},
    }


def test_what_is_written_is_read_again(data: dict[str, Any]) -> None:
    record = Deployment.from_json(json.dumps(data), "model.onnx")
    assert json.loads(record.to_json()) == data
    assert Deployment.from_json(record.to_json(), "model.json") == record


def test_it_stays_as_it_is(data: dict[str, Any]) -> None:
    record = Deployment.from_json(json.dumps(data), "model.onnx")
    with pytest.raises(ValidationError, match="frozen"):
        record.task = "regression"  # type: ignore[misc]


def test_one_channel_may_name_both_of_its_classes(data: dict[str, Any]) -> None:
    data["output"] = {"name": "output", "classes": ["land", "water"], "channels": 1}
    assert Deployment.model_validate(data).output.classes == ("land", "water")


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("task", "detection", "task: .*'segmentation'"),
        ("inputs", [], "inputs: "),
        ("inputs.0.bands", ["BLUE"], "bands of image must be one a channel: 2, got 1"),
        ("inputs.0.means", None, "means and stds of image go together"),
        ("inputs.0.stds", [1.0, 0.0], "stds of image must be above 0, got 0.0"),
        ("inputs.0.means", [1.0, float("nan")], "inputs.0.means.1: .*finite"),
        ("inputs.0.height", 0, "inputs.0.height: "),
        ("inputs.0.colour", 1, "inputs.0.colour: "),
        ("output.classes", ["farm"], "classes of the output must be 3 names, got 1"),
        ("task", "regression", "regression has 1 channel and no classes"),
        ("model.kept_blocks", [0, 24], "model: .*24"),
        ("more", 1, "more: "),
    ],
)
def test_a_record_that_cannot_be_is_refused(
    data: dict[str, Any], where: str, value: object, said: str
) -> None:
    *path, last = [int(part) if part.isdigit() else part for part in where.split(".")]
    place: Any = data
    for part in path:
        place = place[part]
    place[last] = value
    with pytest.raises(ValueError, match=f"^model.onnx does not say rightly .*{said}"):
        Deployment.from_json(json.dumps(data), "model.onnx")


def test_two_inputs_have_names_and_one_size(data: dict[str, Any]) -> None:
    first = data["inputs"][0]
    with pytest.raises(ValueError, match="names of their own, got image, image"):
        Deployment.model_validate(data | {"inputs": [first, first]})
    other = first | {"name": "radar", "height": 112}
    with pytest.raises(ValueError, match="one height and width"):
        Deployment.model_validate(data | {"inputs": [first, other]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "model.onnx does not say what the model expects: not JSON"),
        ("[1]", "it has no schema_version"),
        ('{"schema_version": 2}', "schema 2, this version reads up to 1: upgrade"),
    ],
)
def test_what_is_no_record_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Deployment.from_json(text, "model.onnx")
