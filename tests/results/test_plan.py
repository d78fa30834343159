from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from terratorch_simpler.results.blocks import check_kept_blocks, keep_spec
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.savings import Cost, Savings

MakePlan = Callable[..., PruningPlan]
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def data(make_plan: MakePlan) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(make_plan().to_json())
    return loaded


def test_saved_and_loaded_plan_is_equal(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan()
    plan.save(tmp_path / "plan.json")
    assert PruningPlan.load(tmp_path / "plan.json") == plan


def test_saving_what_was_loaded_gives_the_same_file(make_plan: MakePlan, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    make_plan().save(first)
    PruningPlan.load(str(first)).save(str(second))
    assert first.read_bytes() == second.read_bytes()


def test_a_plan_of_the_first_version_is_written_back_as_it_was() -> None:
    """Made before plans held savings and before the package's modules moved."""
    text = (Path(__file__).parent / "data" / "plan_v1.json").read_text()
    plan = PruningPlan.from_json(text, "plan_v1.json")
    assert plan.to_json() == text
    assert (plan.depth, plan.savings, plan.probe) == (10, None, None)


def test_file_is_json_with_the_documented_names(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan(moving=5)
    plan.save(tmp_path / "plan.json")
    data = json.loads((tmp_path / "plan.json").read_text())
    assert data["schema_version"] == 1
    assert (data["depth"], data["total_depth"]) == (5, 12)
    assert data["kept_blocks"] == [0, 1, 2, 3, 4]
    assert np.array_equal(data["similarity"], plan.similarity)
    assert data["scores"] == {str(depth): score for depth, score in plan.scores.items()}


def test_a_row_of_the_matrix_is_a_line_of_the_file(make_plan: MakePlan) -> None:
    lines = make_plan().to_json().splitlines()
    rows = [line for line in lines if line.count(",") >= 12]
    assert len(rows) == 13


@pytest.mark.parametrize("name", ["tile [ 1 ]", "[ 1,\n 2 ]", "a [ b ] c", "é"])
def test_texts_in_a_plan_are_kept(make_plan: MakePlan, tmp_path: Path, name: str) -> None:
    """Laying out rows of numbers must not reach into names that look like them."""
    plan = make_plan(name=name)
    plan.save(tmp_path / "plan.json")
    assert PruningPlan.load(tmp_path / "plan.json").backbone.name == name


def test_a_plan_keeps_what_was_saved(make_plan: MakePlan) -> None:
    savings = Savings(Cost(3, 10, 0.2, 100), Cost(2, 5, 0.1))
    plan = make_plan().model_copy(update={"savings": savings})
    assert PruningPlan.from_json(plan.to_json(), "here") == plan
    assert json.loads(plan.to_json())["savings"]["pruned"]["memory"] is None


def test_savings_that_do_not_say_each_time_are_written_back_so(make_plan: MakePlan) -> None:
    savings = Savings(Cost(3, 10, 0.2), Cost(2, 5, 0.1, 50))
    plan = make_plan().model_copy(update={"savings": savings})
    assert "times" not in json.loads(plan.to_json())["savings"]["full"]
    timed = Savings(Cost(3, 10, 0.2, None, [0.2, 0.3]), Cost(2, 5, 0.1, 50, [0.1, 0.2]))
    written = plan.model_copy(update={"savings": timed}).to_json()
    assert PruningPlan.from_json(written, "here").savings == timed
    data = json.loads(written)
    data["savings"]["pruned"]["times"] = [0.1]
    with pytest.raises(ValueError, match="timed as often"):
        PruningPlan.from_json(json.dumps(data), "here")


def test_versions_that_know_no_savings_read_a_plan_without_them(make_plan: MakePlan) -> None:
    """As a file, and as a checkpoint keeps it."""
    plan = make_plan()
    for keys in (json.loads(plan.to_json()), plan.model_dump(mode="json", by_alias=True)):
        assert not {"savings", "probe"} & set(keys)
        assert "depth_interval" in keys
        assert PruningPlan.model_validate(keys) == plan


@pytest.mark.parametrize(
    ("cost", "value"),
    [("flops", 0), ("seconds", -1.0), ("seconds", float("nan")), ("parameters", 0), ("memory", 0)],
)
def test_costs_that_no_ratio_can_be_taken_of_are_refused(
    make_plan: MakePlan, cost: str, value: float
) -> None:
    savings = Savings(Cost(3, 10, 0.2, 100), Cost(2, 5, 0.1, 50))
    data = json.loads(make_plan().model_copy(update={"savings": savings}).to_json())
    data["savings"]["pruned"][cost] = value
    with pytest.raises(ValueError, match=rf"not a valid plan: savings\.pruned\.{cost}: "):
        PruningPlan.from_json(json.dumps(data), "here")


def test_plan_cannot_be_changed(make_plan: MakePlan) -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_plan().depth = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kept", "spec"), [([0], 1), ([0, 1, 2], 3), ([1], [1]), ([0, 2], [0, 2]), ([1, 2], [1, 2])]
)
def test_spec_is_a_number_for_first_blocks_only(kept: list[int], spec: int | list[int]) -> None:
    assert keep_spec(kept) == spec
    assert check_kept_blocks(spec, 4) == kept


CONTRADICTIONS: dict[str, tuple[Edit, str]] = {
    "depth": (lambda d: d.update(depth=3), "depth is 3 but kept_blocks has 4"),
    "fewer kept blocks": (lambda d: d["kept_blocks"].pop(), "depth is 4 but kept_blocks has 3"),
    "depth and kept blocks": (
        lambda d: d.update(depth=3, kept_blocks=[0, 1, 2]),
        "criterion 'simpler' keeps the first 4 blocks",
    ),
    "other kept blocks": (
        lambda d: d.update(kept_blocks=[0, 1, 2, 4]),
        "criterion 'simpler' keeps the first 4 blocks",
    ),
    "kept block beyond the last": (lambda d: d.update(kept_blocks=[0, 1, 2, 12]), "outside 0..11"),
    "no kept blocks": (lambda d: d.update(depth=0, kept_blocks=[]), "must list whole numbers"),
    "total depth": (
        lambda d: d.update(total_depth=24),
        "total_depth is 24 but the backbone has 12",
    ),
    "depth of the backbone": (
        lambda d: d["backbone"].update(depth=24),
        "total_depth is 12 but the backbone has 24",
    ),
    "a score": (lambda d: d["scores"].update({"4": 0.5}), "scores do not follow from similarity"),
    "a score that is no number": (
        lambda d: d["scores"].update({"4": float("nan")}),
        "scores do not follow from similarity|finite",
    ),
    "a missing score": (lambda d: d["scores"].pop("4"), "scores do not follow from similarity"),
    "one more score": (lambda d: d["scores"].update({"1": 0.0}), "scores do not follow"),
    "asymmetric similarity": (
        lambda d: d["similarity"][2].__setitem__(3, 0.5),
        "similarity is not symmetric",
    ),
    "other similarity": (
        lambda d: (d["similarity"][2].__setitem__(3, 0.1), d["similarity"][3].__setitem__(2, 0.1)),
        "scores do not follow from similarity",
    ),
    "similarity without a row": (lambda d: d["similarity"].pop(), "similarity must be 13 x 13"),
    "similarity that is no number": (
        lambda d: d["similarity"][2].__setitem__(2, float("nan")),
        "similarity must be 13 x 13 finite numbers",
    ),
    "similarity with a short row": (
        lambda d: d["similarity"][2].pop(),
        "similarity must be 13 x 13",
    ),
    "criterion": (lambda d: d.update(criterion="stabilization"), "scores do not follow"),
    "unknown criterion": (lambda d: d.update(criterion="magic"), "unknown criterion 'magic'"),
    "confidence": (lambda d: d.update(confidence=1.5), "confidence: .*less than or equal to 1"),
    "pooling": (lambda d: d.update(pooling="max"), "pooling: .*'tokens' or 'mean'"),
    "missing key": (lambda d: d.pop("kept_blocks"), "kept_blocks: Field required"),
    "missing inner key": (lambda d: d["tiles"].pop("used"), "tiles.used: Field required"),
    "unknown key": (lambda d: d.update(kept=3), "kept: Extra inputs are not permitted"),
    "unknown inner key": (lambda d: d["backbone"].update(kept=3), "backbone.kept: Extra inputs"),
    "depth that is no number": (lambda d: d.update(depth="four"), "depth: .*valid integer"),
    "newer schema": (
        lambda d: d.update(schema_version=2),
        "plan schema 2, this version reads up to 1: upgrade",
    ),
    "older schema": (lambda d: d.update(schema_version=0), "schema_version"),
    "no schema": (lambda d: d.pop("schema_version"), "has no schema_version"),
    "schema that is no number": (lambda d: d.update(schema_version="1"), "has no schema_version"),
}


@pytest.mark.parametrize(("edit", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_edited_plan_is_refused(
    data: dict[str, Any], tmp_path: Path, edit: Edit, message: str
) -> None:
    path = tmp_path / "plan.json"
    edit(data)
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=rf"(?s)plan\.json.*{message}"):
        PruningPlan.load(path)


def test_contradictions_start_from_a_plan_that_is_accepted(data: dict[str, Any]) -> None:
    assert PruningPlan.from_json(json.dumps(data), "here").depth == 4


@pytest.mark.parametrize("content", [b"", b"not JSON", b"{", b"\xff\xfe"])
def test_file_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"plan\.json is not a plan: not JSON"):
        PruningPlan.load(tmp_path / "plan.json")


@pytest.mark.parametrize("content", ["[]", "3", "null", '"plan"', "{}"])
def test_json_that_is_no_plan_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="here is not a plan: it has no schema_version"):
        PruningPlan.from_json(content, "here")


def test_missing_file_says_how_to_make_a_plan(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no plan at .*gone\.json.*terratorch-simpler select"
    ):
        PruningPlan.load(tmp_path / "gone.json")


def test_plan_is_not_saved_over_a_file(make_plan: MakePlan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"plan\.json already there: .*overwrite=True"):
        make_plan().save(path)
    assert path.read_text() == "mine"


def test_plan_is_saved_over_a_file_when_asked(make_plan: MakePlan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("mine")
    make_plan().save(path, overwrite=True)
    assert PruningPlan.load(path) == make_plan()


@pytest.mark.parametrize(
    ("keep", "blocks"),
    [(1, [0]), (5, [0, 1, 2, 3, 4]), ([0], [0]), ([4], [4]), ([0, 2, 3], [0, 2, 3])],
)
def test_keep_blocks_becomes_block_indices(keep: int | list[int], blocks: list[int]) -> None:
    assert check_kept_blocks(keep, 5) == blocks


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (0, "keep_blocks is 0, but this backbone has 5 blocks: choose from 1 to 5"),
        (-1, "keep_blocks is -1, but this backbone has 5 blocks"),
        (6, "keep_blocks is 6, but this backbone has 5 blocks"),
        (True, "must be a number or a list of block indices, got True"),
        (2.0, "must be a number or a list of block indices, got 2.0"),
        ("2", "must be a number or a list of block indices, got '2'"),
        (None, "must be a number or a list of block indices, got None"),
        ((0, 1), "must be a number or a list of block indices"),
        ([], r"must list whole numbers, got \[\]"),
        ([0, 1.0], r"must list whole numbers, got \[0, 1.0\]"),
        ([0, True], r"must list whole numbers, got \[0, True\]"),
        (["0"], "must list whole numbers"),
        ([0, 5], r"\[0, 5\] names a block outside 0..4 \(indices are 0-based\)"),
        ([-1, 0], "names a block outside 0..4"),
        ([0, 0], r"\[0, 0\] must be sorted and without repeats"),
        ([2, 1], r"\[2, 1\] must be sorted and without repeats"),
    ],
    ids=repr,
)
def test_wrong_keep_blocks_is_refused(keep: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_kept_blocks(keep, 5)


PLANNED = ("prithvi_eo_v2_tiny_tl", 12, "0" * 64)


@pytest.mark.parametrize(
    ("name", "depth", "fingerprint"),
    [PLANNED, (None, 12, "0" * 64), ("prithvi_eo_v2_tiny_tl", 12, None), (None, 12, None)],
)
def test_plan_accepts_what_it_was_made_for(
    make_plan: MakePlan, name: str | None, depth: int, fingerprint: str | None
) -> None:
    make_plan().check_backbone(name, depth, fingerprint)


@pytest.mark.parametrize(
    ("name", "depth", "fingerprint", "message"),
    [
        (
            "prithvi_eo_v2_300",
            24,
            None,
            "another backbone: prithvi_eo_v2_tiny_tl in the plan, prithvi_eo_v2_300 here",
        ),
        (None, 24, None, "another depth: 12 in the plan, 24 here"),
        (None, 12, "ab" * 32, "another weights: 000000000000 in the plan, abababababab here"),
    ],
)
def test_plan_names_the_difference(
    make_plan: MakePlan, name: str | None, depth: int, fingerprint: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan().check_backbone(name, depth, fingerprint)
