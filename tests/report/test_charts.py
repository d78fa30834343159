"""The page's own drawings: every value has its place and its words."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from terratorch_simpler.report import report_files
from terratorch_simpler.report.depth_chart import HEIGHT, depth_chart
from terratorch_simpler.report.similarity_map import SIDE, similarity_map
from terratorch_simpler.results.plan import PruningPlan
from tests.conftest import MakePlan
from tests.report.plans import PROBE, SAVINGS


@pytest.fixture
def plan(make_plan: MakePlan) -> PruningPlan:
    shares = {"depth_shares": {4: 0.75, 5: 0.25}, "savings": SAVINGS, "probe": PROBE}
    return make_plan(name="x").model_copy(update=shares)


def drawings(plan: PruningPlan) -> list[ElementTree.Element]:
    """The SVGs of the page, each of which has to be well-formed."""
    page = report_files(plan, "plan.json", {})["report.html"].decode()
    found = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    return [ElementTree.fromstring(text) for text in found]


def titles(drawing: ElementTree.Element) -> list[str]:
    return [title.text or "" for title in drawing.iter("title")]


def test_every_value_of_a_depth_can_be_hovered_over(plan: PruningPlan) -> None:
    chart, _ = drawings(plan)
    said = titles(chart)
    for depth, score in plan.scores.items():
        kept = ", kept" if depth == plan.depth else ""
        assert f"depth {depth}: score {score:+.4f}{kept}" in said
    assert "depth 4: chosen by 75.0% of resamples" in said
    assert "layer 12: mIoU 0.320 (standard error to the best 0.000)" in said
    at = f"depth {plan.depth}: parameters 50%, time 50%, memory 25% of the full backbone's"
    assert said.count(at) == 3


def test_every_pair_of_layers_can_be_hovered_over(plan: PruningPlan) -> None:
    _, square = drawings(plan)
    said = titles(square)
    assert len(said) == (plan.total_depth + 1) ** 2
    assert f"layers 3 and 7: {plan.similarity[3, 7]:.3f}" in said


def test_bars_are_as_long_as_their_values(plan: PruningPlan) -> None:
    shares = depth_chart(plan).panels[1]
    long, short = (bar.base - bar.y for bar in shares.bars)
    assert long == pytest.approx(0.75 * HEIGHT)
    assert short == pytest.approx(0.25 * HEIGHT)
    scores = depth_chart(plan).panels[0]
    heights = {bar.title.partition(":")[0]: bar.y for bar in scores.bars}
    best = max(plan.scores, key=plan.scores.__getitem__)
    assert min(heights, key=heights.__getitem__) == f"depth {best}"
    assert [bar.kind for bar in scores.bars].count("kept") == 1


def test_negative_scores_hang_below_zero(make_plan: MakePlan) -> None:
    plan = make_plan()
    scores = {depth: (-1.0 if depth % 2 else 0.5) for depth in plan.scores}
    panel = depth_chart(plan.model_copy(update={"scores": scores})).panels[0]
    assert panel.zero is not None
    for bar, score in zip(panel.bars, scores.values(), strict=True):
        assert (bar.y > panel.zero) == (score < 0)


def test_depths_that_cannot_be_chosen_are_named(plan: PruningPlan) -> None:
    how = depth_chart(plan).panels[0].how
    missing = sorted(set(range(1, 13)) - plan.scores.keys())
    assert missing
    assert f"depths {', '.join(map(str, missing))} cannot be chosen" in how


def test_what_was_not_measured_has_no_panel(make_plan: MakePlan) -> None:
    plan = make_plan()
    names = [panel.name for panel in depth_chart(plan).panels]
    assert not [name for name in names if name.startswith(("Cost", "Labels"))]
    empty = plan.model_copy(update={"scores": {}, "depth_shares": {}, "criterion": "first"})
    assert not depth_chart(empty).panels
    page = report_files(empty, "plan.json", {})["report.html"].decode()
    assert "first scores no depth: it was named" in page


def test_the_map_is_scaled_to_its_values(plan: PruningPlan) -> None:
    found = similarity_map(plan)
    assert found.low == plan.similarity.min()
    by_title = {cell.title: cell for cell in found.cells}
    corner = by_title[f"layers 0 and 0: {1:.3f}"]
    assert (corner.x, corner.color) == (0, found.scale[-1])
    assert corner.y == pytest.approx(SIDE - SIDE / 13, abs=0.02)
    low = np.unravel_index(plan.similarity.argmin(), plan.similarity.shape)
    darkest = by_title[f"layers {low[0]} and {low[1]}: {found.low:.3f}"]
    assert darkest.color == found.scale[0]
    ((x, _, side),) = found.kept
    assert x == 0
    assert side == pytest.approx(SIDE * (plan.depth + 1) / 13, abs=0.02)


def test_the_page_follows_the_readers_scheme_and_printer(plan: PruningPlan) -> None:
    page = report_files(plan, "plan.json", {})["report.html"].decode()
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert len(page) < 300_000
    order = ["What to do next", "Every depth", "Similarity of", "What labels say", "other criteria"]
    places = [page.index(f"{words}") for words in order]
    assert places == sorted(places)
