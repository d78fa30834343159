"""Answers and curves of fine-tuned models, as the page shows them."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from numpy.typing import NDArray

from terratorch_simpler.report import report_files
from terratorch_simpler.report.answers import NOTHING, PALETTE, answers_view
from terratorch_simpler.report.curves import curves_chart
from terratorch_simpler.results.answers import Answers
from tests.conftest import MakePlan
from tests.report.plans import ANSWERS, FINETUNED, rich_plan

ELEVATION = np.array([[[0.0, 10.0], [np.nan, 40.0]]])
NUMBERS = Answers(
    "regression",
    np.zeros((1, 2, 2, 3), np.uint8),
    ELEVATION,
    np.isfinite(ELEVATION),
    {"full": np.array([[[0.0, 10.0], [5.0, 40.0]]]), "simpler": np.full((1, 2, 2), 20.0)},
)
WORDS = Answers(
    "classification",
    np.zeros((2, 2, 2, 3), np.uint8),
    np.array([1, -1]),
    np.array([True, False]),
    {"full": np.array([1, 0]), "simpler": np.array([0, 0])},
    ("farm", "forest"),
)


def pixels(address: str | None) -> NDArray[np.float64]:
    """A picture's colours, [height, width, 3] from 0 to 1."""
    assert address is not None
    return np.asarray(imread(io.BytesIO(base64.b64decode(address.partition(",")[2]))))[..., :3]


def test_a_class_has_the_colour_of_the_legend() -> None:
    view = answers_view(ANSWERS)
    assert view.columns == ["image", "label", "full", "simpler"]
    colors = {name: color for color, name in view.legend}
    assert list(colors) == ["farm", "forest", "water", "no label"]
    label = pixels(view.rows[0][1].picture)
    for (row, column), name in zip(
        ((0, 0), (0, 7), (7, 0), (7, 7)), ("farm", "forest", "water", "no label"), strict=True
    ):
        assert label[row, column] == pytest.approx(to_rgb(colors[name]), abs=1e-6)
    assert colors["no label"] == NOTHING
    full = pixels(view.rows[0][2].picture)
    assert full[7, 7] == pytest.approx(to_rgb(colors["forest"]), abs=1e-6)


def test_what_is_right_is_counted_where_there_are_labels() -> None:
    first, second = answers_view(ANSWERS).rows
    assert [answer.words for answer in first] == ["", "", "100% right", "67% right"]
    assert [answer.words for answer in second] == ["", "", "33% right", "33% right"]
    assert first[2].alt == "validation tile 1: full"


def test_many_classes_have_a_colour_each() -> None:
    labels = np.arange(12).reshape(1, 3, 4)
    images = np.zeros((1, 3, 4, 3), np.uint8)
    many = Answers("segmentation", images, labels, labels >= 0, {"full": labels})
    legend = answers_view(many).legend
    assert len({color for color, _ in legend}) == 12 > len(PALETTE)
    assert legend[-1][1] == "class 11"


def test_numbers_have_one_scale() -> None:
    view = answers_view(NUMBERS)
    assert [value for _, value in view.legend] == ["0", "10", "20", "30", "40"]
    _, label, full, simpler = view.rows[0]
    assert pixels(label.picture)[0, 1] == pytest.approx(to_rgb(view.legend[1][0]), abs=0.01)
    assert pixels(label.picture)[1, 0] == pytest.approx(to_rgb(NOTHING), abs=1e-6)
    assert pixels(simpler.picture)[0, 0] == pytest.approx(to_rgb(view.legend[2][0]), abs=0.01)
    error = np.sqrt((20**2 + 10**2 + 20**2) / 3)
    assert (label.words, full.words, simpler.words) == ("", "error 0", f"error {error:.4g}")


def test_classes_of_tiles_are_words() -> None:
    view = answers_view(WORDS)
    assert not view.legend
    assert [answer.words for answer in view.rows[0]] == [
        "",
        "forest",
        "forest, right",
        "farm, wrong",
    ]
    assert [answer.words for answer in view.rows[1]] == ["", "no label", "farm", "farm"]
    assert [answer.picture is None for answer in view.rows[0]] == [False, True, True, True]


def test_the_page_shows_them_and_stays_small(make_plan: MakePlan) -> None:
    noise = np.random.default_rng(0)
    labels = noise.integers(0, 7, (4, 112, 112))
    images = noise.integers(0, 255, (4, 112, 112, 3)).astype(np.uint8)
    models = {model.name: labels for model in FINETUNED} | {"probe": labels}
    largest = Answers("segmentation", images, labels, labels >= 0, models)
    page = report_files(rich_plan(make_plan), "plan.json", {}, largest)["report.html"]
    assert page.count(b"<img") == 4 * 5
    assert len(page) < 1_500_000
    without = report_files(rich_plan(make_plan), "plan.json", {})["report.html"]
    assert b"What the models say" not in without


def test_a_curve_has_a_point_an_epoch() -> None:
    chart = curves_chart(FINETUNED)
    assert chart is not None
    full, simpler = chart.panels[0].lines
    assert (full.name, simpler.name) == ("full", "simpler")
    assert full.kind != simpler.kind
    assert [label for _, label in chart.steps] == ["1", "2", "3"]
    assert [mark.x for mark in full.marks] == [x for x, _ in chart.steps]
    assert full.marks[0].title == "epoch 1: mIoU of full 0.050, simpler 0.150"
    assert full.marks[0].y > simpler.marks[0].y
    assert full.marks[2].y == simpler.marks[2].y
    assert "after the last: full 0.250, simpler 0.250" in chart.words


def test_without_epochs_there_is_no_curve(make_plan: MakePlan) -> None:
    earlier = [replace(model, validation=None) for model in FINETUNED]
    assert curves_chart(earlier) is None
    plan = rich_plan(make_plan).model_copy(update={"finetuned": earlier})
    assert b"While training" not in report_files(plan, "plan.json", {})["report.html"]
    shorter = [FINETUNED[0], replace(FINETUNED[1], validation=[0.1])]
    chart = curves_chart(shorter)
    assert chart is not None
    assert [len(line.marks) for line in chart.panels[0].lines] == [3, 1]
