from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure

from terratorch_simpler.report import (
    picture,
    read_pictures,
    report_files,
    scores_figure,
    similarity_figure,
    to_png,
)
from terratorch_simpler.results.blocks import block_ranges
from terratorch_simpler.results.plan import BY_STRUCTURE, PruningPlan
from terratorch_simpler.results.savings import Cost, Savings
from terratorch_simpler.results.wording import decision_sentence, doubts, savings_rows
from tests.conftest import MakePlan
from tests.report.plans import MADE

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
    return make_plan(name="x").model_copy(update={"savings": SAVINGS})


def _page(plan: PruningPlan, **images: Any) -> str:
    pictures = {name: picture(image) for name, image in images.items()}
    return report_files(plan, "chosen/plan.json", pictures)["report.html"].decode()


def test_the_page_needs_nothing_from_outside(plan: PruningPlan) -> None:
    page = _page(plan, tile=np.zeros((8, 8, 3), np.uint8))
    links = _Links()
    links.feed(page)
    assert len(links.fetched) == 1
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


def test_a_warning_that_begins_with_a_name_keeps_it(plan: PruningPlan) -> None:
    backbone = plan.backbone.model_copy(update={"pretrained": False})
    page = _page(plan.model_copy(update={"backbone": backbone}))
    assert '<p class="doubt" role="note">x was not pre-trained' in page


def test_the_page_says_when_and_by_what_a_plan_was_made(plan: PruningPlan) -> None:
    assert "Made at" not in _page(plan)
    page = _page(plan.model_copy(update={"made": MADE}))
    assert ">2026-03-01T12:05:09Z</time> by <code>terratorch-simpler select --config" in page
    assert "from the config <code>my task.yaml</code>." in page
    python = MADE.model_copy(update={"command": None})
    assert "</time> from Python, from" in _page(plan.model_copy(update={"made": python}))


def test_names_from_files_are_escaped(plan: PruningPlan) -> None:
    page = _page(plan, **{"<b>x</b>": np.zeros((8, 8, 3), np.uint8)})
    assert "<b>x</b>" not in page


def test_without_measured_costs_the_page_tells_the_parameters(plan: PruningPlan) -> None:
    page = _page(plan.model_copy(update={"savings": None}))
    assert "Parameters: 5,400,000 to 2,000,000." in page
    assert "2.00x" not in page


def test_each_figure_is_rendered_once(plan: PruningPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page draws its own."""
    drawn = []
    draw = Figure.draw

    def counted(self: Figure, renderer: RendererBase) -> None:
        drawn.append(self)
        draw(self, renderer)

    monkeypatch.setattr(Figure, "draw", counted)
    files = report_files(plan, "plan.json", {})
    assert len(drawn) == 2
    for name in ("similarity.png", "scores.png"):
        assert files[name].startswith(b"\x89PNG")


def test_the_lines_name_the_blocks_where_no_family_does(plan: PruningPlan) -> None:
    assert "backbone_blocks" not in _page(plan)
    record = plan.backbone.model_copy(update={"family": BY_STRUCTURE, "blocks": "encoder.layers"})
    page = _page(plan.model_copy(update={"backbone": record}))
    assert "backbone_keep_blocks: 4\n" in page
    assert "backbone_plan: chosen/plan.json\n      backbone_blocks: encoder.layers\n" in page


@pytest.mark.parametrize("names", [(), ("a.tif",), ("<b>'&amp;\"é", "tile 0", "")])
def test_pictures_are_read_back_from_a_page(
    plan: PruningPlan, tmp_path: Path, names: tuple[str, ...]
) -> None:
    pictures = {
        name: picture(np.full((8, 8, 3), index, np.uint8)) for index, name in enumerate(names)
    }
    files = report_files(plan, "plan.json", pictures)
    (tmp_path / "report.html").write_bytes(files["report.html"])
    assert read_pictures(tmp_path / "report.html") == pictures


@pytest.mark.parametrize(
    ("page", "pictures"),
    [
        ("", None),
        ("<img src='data:image/png;base64,eA=='>", None),
        ("<div class='tiles'></div><img src='data:image/png;base64,eA==' alt='x'>", {}),
        ("<div class='tiles'><img src='https://there/x.png' alt='x'><img></div>", {}),
        ("<div class='tiles'><img src='data:image/png;base64,?' alt='x'>", {}),
        ("<div class='tiles'><img src='data:image/png;base64,eA==' alt='x'>", {"x": b"x"}),
    ],
)
def test_only_pictures_inside_the_page_are_read(
    tmp_path: Path, page: str, pictures: dict[str, bytes] | None
) -> None:
    assert read_pictures(tmp_path / "page.html") is None
    (tmp_path / "page.html").write_text(page)
    assert read_pictures(tmp_path / "page.html") == pictures


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
    alone = plan.model_copy(update={"criterion": "rankme", "confidence": None})
    assert any("one group of tiles" in doubt for doubt in doubts(alone))
    assert not any("too few groups" in doubt for doubt in doubts(alone))


@pytest.mark.parametrize(
    ("depth", "confidence", "warned"), [(2, 1.0, True), (3, 1.0, False), (2, 0.9, False)]
)
def test_a_shallow_choice_that_is_sure_is_warned_of(
    make_plan: MakePlan, depth: int, confidence: float, warned: bool
) -> None:
    update = {"depth": depth, "total_depth": 12, "confidence": confidence}
    found = doubts(make_plan().model_copy(update=update))
    assert any("compare with a third of the blocks (4)" in doubt for doubt in found) == warned


def test_savings_are_ratios_full_over_pruned() -> None:
    assert [row[3] for row in savings_rows(SAVINGS)] == ["2.00x", "2.00x", "2.00x"]


def test_times_come_with_their_spread(plan: PruningPlan) -> None:
    full = replace(SAVINGS.full, times=[0.3, 0.2, 0.22])
    pruned = replace(SAVINGS.pruned, times=[0.1, 0.16, 0.11])
    measured = Savings(full, pruned)
    rows = savings_rows(measured)
    assert rows[2:] == [
        ("ms per forward pass", "200.0", "100.0", "2.00x"),
        ("  median, slowest", "220.0, 300.0", "110.0, 160.0", "1.25x to 3.00x"),
    ]
    page = _page(plan.model_copy(update={"savings": measured}))
    assert "2.00x as fast (1.25x to 3.00x from turn to turn), with" in page
    assert "from turn to turn" not in _page(plan)


@pytest.mark.parametrize(
    ("blocks", "words"), [([0], "0"), ([0, 1, 2], "0-2"), ([0, 2, 3, 7], "0, 2-3, 7")]
)
def test_blocks_are_described_by_runs(blocks: list[int], words: str) -> None:
    assert block_ranges(blocks) == words
