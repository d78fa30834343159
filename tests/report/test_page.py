from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from terratorch_simpler.report import render_report, scores_figure, similarity_figure, to_png
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.savings import Cost, Savings
from terratorch_simpler.results.wording import decision_sentence, describe, doubts, savings_rows
from tests.conftest import MakePlan

SAVINGS = Savings(Cost(5_600_000, 2_000_000_000, 0.2), Cost(2_800_000, 1_000_000_000, 0.1))


class _Links(HTMLParser):
    """Collects everything a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.fixture
def plan(make_plan: MakePlan) -> PruningPlan:
    return make_plan()


def _page(plan: PruningPlan, **thumbnails: Any) -> str:
    return render_report(plan, SAVINGS, thumbnails, "backbone: simpler_x")


def test_the_page_needs_nothing_from_outside(plan: PruningPlan) -> None:
    page = _page(plan, tile=np.zeros((8, 8, 3), np.uint8))
    links = _Links()
    links.feed(page)
    assert len(links.fetched) == 3
    assert all(link.startswith("data:image/png;base64,") for link in links.fetched)
    assert not re.search(r"url\(|@import|<script|<link", page)


def test_the_page_holds_the_decision_and_what_it_rests_on(plan: PruningPlan) -> None:
    page = _page(plan)
    assert decision_sentence(plan) in page
    assert "backbone: simpler_x" in page
    for name in plan.others:
        assert f"<td>{name}</td>" in page
    assert page.count("(kept)") == 1
    assert "2.00x" in page


def test_names_from_files_are_escaped(plan: PruningPlan) -> None:
    page = render_report(plan, None, {"<b>x</b>": np.zeros((8, 8, 3), np.uint8)}, "")
    assert "<b>x</b>" not in page


def test_figures_are_pictures(plan: PruningPlan) -> None:
    for draw in (similarity_figure, scores_figure):
        png = to_png(draw(plan))
        assert png.startswith(b"\x89PNG")
        assert to_png(draw(plan)) == png


def test_doubts_are_told(make_plan: MakePlan) -> None:
    plan = make_plan()
    untrained = plan.model_copy(
        update={"backbone": plan.backbone.model_copy(update={"pretrained": False})}
    )
    assert any("not pre-trained" in doubt for doubt in doubts(untrained))
    unsettled = plan.model_copy(update={"confidence": 0.5, "depth_shares": {2: 0.5, 3: 0.5}})
    assert any("do not settle" in doubt for doubt in doubts(unsettled))
    flat = plan.model_copy(update={"stabilizes": False})
    assert any("no part" in doubt for doubt in doubts(flat))
    alike = plan.model_copy(update={"output_scale": 0.3})
    assert doubts(alike) == doubts(plan)
    smaller = plan.model_copy(update={"output_scale": 0.011})
    assert any("0.011 times as spread" in doubt for doubt in doubts(smaller))


def test_savings_are_ratios_full_over_pruned() -> None:
    assert [row[3] for row in savings_rows(SAVINGS)] == ["2.00x", "2.00x", "2.00x"]


@pytest.mark.parametrize(
    ("blocks", "words"), [([0], "0"), ([0, 1, 2], "0-2"), ([0, 2, 3, 7], "0, 2-3, 7")]
)
def test_blocks_are_described_by_runs(blocks: list[int], words: str) -> None:
    assert describe(blocks) == words
