"""Records as a person sees them: a short repr, a summary, HTML, figures and the report's page."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from terratorch_simpler.cli.select import show
from terratorch_simpler.report import PAGE, report_files
from terratorch_simpler.report.looks import figure, html, summary, write_page
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.probe import Probe
from terratorch_simpler.results.profile import Profile, Row
from terratorch_simpler.results.savings import Cost, Savings
from terratorch_simpler.task.run import TaskSelection
from tests.conftest import TINY, MakePlan

WARNING = "the tiles do not settle <the> depth"
PROBE = Probe(
    backbone=TINY,
    task="segmentation",
    metric="mIoU",
    scores={layer: 0.3 + 0.02 * min(layer, 6) for layer in range(13)},
    others={},
    penalties=dict.fromkeys(range(13), 0.1),
    train_tiles=48,
    val_tiles=24,
    reference="best",
)
PROFILE = Profile(
    TINY,
    "cpu",
    2,
    "6 x 32 x 32",
    tuple(
        Row(n, n * 10**6, 10**9, 0.1, 20.0, 10**8, 0.3, 2 * 10**8, "measured") for n in range(1, 13)
    ),
    0.012,
)


@pytest.fixture
def plan(make_plan: MakePlan) -> PruningPlan:
    savings = Savings(Cost(5_400_000, 2 * 10**9, 0.2), Cost(2_000_000, 10**9, 0.1))
    return make_plan().model_copy(update={"savings": savings, "warnings": [WARNING]})


def test_the_repr_of_a_plan_is_two_lines(plan: PruningPlan) -> None:
    assert repr(plan).splitlines() == [
        f"PruningPlan: keep the first 4 of 12 blocks of {TINY}, by simpler on 2 tiles (75% of "
        "resamples)",
        "  1 warning; see .summary(), .plot() and .report(path)",
    ]
    assert str(plan) == repr(plan)
    assert "0 warnings; " in repr(plan.model_copy(update={"warnings": []}))
    assert "warning" not in repr(plan.model_copy(update={"warnings": None}))


def test_the_repr_of_a_plan_with_a_selection_of_blocks(plan: PruningPlan) -> None:
    chosen = plan.model_copy(
        update={"kept_blocks": [3, 7, 11], "depth": 3, "criterion": "uniform", "confidence": None}
    )
    assert repr(chosen).startswith(
        f"PruningPlan: keep 3 of 12 blocks of {TINY}, by uniform on 2 tiles\n"
    )


def test_the_reprs_of_a_probe_and_a_profile_are_two_lines() -> None:
    assert repr(PROBE).splitlines() == [
        f"Probe: segmentation with {TINY}, best mIoU 0.420 at depth 6 of 12",
        "  48 training and 24 validation tiles; see .summary() and .plot()",
    ]
    assert repr(PROFILE).splitlines() == [
        f"Profile: {TINY} at depths 1 to 12, 1.00 to 12.00 M parameters",
        "  6 x 32 x 32 in batches of 2 on cpu; see .summary() and .plot()",
    ]


@pytest.mark.parametrize("with_probe", [False, True])
def test_the_summary_of_a_plan_is_what_the_command_prints(
    plan: PruningPlan, with_probe: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command gives the warnings elsewhere, and says what it wrote."""
    if with_probe:
        plan = plan.model_copy(update={"probe": PROBE})
    show(Console(width=120), TaskSelection(plan, Path("out"), None, (Path("out/plan.json"),)))
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed.pop() == "Written: out/plan.json"
    lines = plan.summary().splitlines()
    assert f"warning: {WARNING}" in lines
    assert [line for line in lines if line != f"warning: {WARNING}"] == printed
    assert any(re.fullmatch(r"simpler \(decides\) +4 +0-3", line) for line in lines)


def test_the_command_says_what_the_cut_saves_of_the_whole_model(
    plan: PruningPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path("out/plan.json")
    show(
        Console(width=40), TaskSelection(plan, Path("out"), None, (file,), "Blocks are 60% of it.")
    )
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "Blocks are 60% of it.",
        f"Written: {file}",
    ]


def test_the_summaries_of_a_probe_and_a_profile_are_their_tables() -> None:
    lines = PROBE.summary().splitlines()
    assert lines[1].split() == ["layer", "mIoU", "of", "the", "best"]
    assert len([line for line in lines if re.match(r" +\d+ ", line)]) == 13
    lines = PROFILE.summary().splitlines()
    assert lines[1].startswith("depth  param. M  GFLOPs")
    assert len([line for line in lines if re.match(r" +\d+ ", line)]) == 12


class _Page(HTMLParser):
    """Counts the tags of a page; remembers where its pictures come from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.sources.append(dict(attrs)["src"] or "")
        else:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_notebook_shows_the_decision_warnings_scores_and_config_lines(plan: PruningPlan) -> None:
    text = plan._repr_html_()
    page = _Page(text)
    assert page.open == []
    assert [source[:22] for source in page.sources] == ["data:image/png;base64,"]
    assert page.tags.count("tr") == 1 + len(plan.scores)
    assert "Keep the first 4 of 12 blocks" in text
    assert "the tiles do not settle &lt;the&gt; depth" in text
    assert "<td>4</td>" in text
    assert "backbone_keep_blocks: 4" in text
    assert "script" not in page.tags
    assert len(text) < 100_000


@pytest.mark.parametrize("record", [PROBE, PROFILE])
def test_a_notebook_shows_the_table_of_a_probe_and_a_profile(record: Probe | Profile) -> None:
    page = _Page(record._repr_html_())
    assert page.open == []
    assert page.tags.count("img") == 1
    assert page.tags.count("tr") == (14 if record is PROBE else 13)
    assert "pre" not in page.tags


def test_figures(plan: PruningPlan) -> None:
    titles = [shown.axes[0].get_title() for shown in (plan.plot(), plan.plot("similarity"))]
    assert titles == ["Depth 4 of 12", "Linear CKA, kept: 4 of 12 blocks"]
    with_probe = plan.model_copy(update={"probe": PROBE})
    assert with_probe.plot("probe").axes[0].get_title() == f"{TINY}: segmentation, frozen"
    for shown in (plan.plot(), PROBE.plot(), PROFILE.plot()):
        assert isinstance(shown, Figure)
        # What a notebook asks for, whether or not pyplot is there.
        assert shown._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


@pytest.mark.parametrize("what", ["probe", "cka"])
def test_a_figure_that_a_plan_does_not_have(plan: PruningPlan, what: str) -> None:
    with pytest.raises(ValueError, match=f"has the figures scores, similarity, got '{what}'"):
        plan.plot(what)  # type: ignore[arg-type]


def test_the_report_of_a_plan_is_the_page_of_the_command(plan: PruningPlan, tmp_path: Path) -> None:
    plan.report(tmp_path / "mine.html")
    page = report_files(plan, "plan.json", {})[PAGE]
    assert (tmp_path / "mine.html").read_bytes() == page
    plan.report(str(tmp_path))
    assert (tmp_path / PAGE).read_bytes() == page
    with pytest.raises(FileExistsError, match="overwrite=True"):
        plan.report(tmp_path)
    (tmp_path / PAGE).write_text("old")
    plan.report(tmp_path, overwrite=True)
    assert (tmp_path / PAGE).read_bytes() == page


def test_only_records_are_shown(tmp_path: Path) -> None:
    for look in (summary, html):
        with pytest.raises(TypeError, match="no record: int"):
            look(3)
    with pytest.raises(TypeError, match="no record: int"):
        figure(3, None)
    with pytest.raises(TypeError, match="no plan: Probe"):
        write_page(PROBE, tmp_path / PAGE, False)


def test_a_plan_is_shown_without_torch_and_named_without_matplotlib(
    plan: PruningPlan, tmp_path: Path
) -> None:
    plan.save(tmp_path / "plan.json")
    code = """\
import sys
from terratorch_simpler.results.plan import PruningPlan
plan = PruningPlan.load(sys.argv[1])
repr(plan)
print("matplotlib" in sys.modules)
plan.summary(), plan._repr_html_(), plan.plot()
print({"torch", "terratorch", "lightning"} & set(sys.modules))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "plan.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False", "set()"]
