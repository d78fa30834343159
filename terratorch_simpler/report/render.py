"""Every file of a report, from the plan alone."""

from __future__ import annotations

from collections.abc import Mapping

from terratorch_simpler.report.figures import scores_figure, similarity_figure, to_png
from terratorch_simpler.report.page import render_page
from terratorch_simpler.results.answers import Answers
from terratorch_simpler.results.config_lines import config_lines
from terratorch_simpler.results.plan import BY_STRUCTURE, PruningPlan

PAGE = "report.html"
REPORT = (PAGE, "similarity.png", "scores.png")
"""Names of a report's files."""


def report_files(
    plan: PruningPlan,
    plan_path: str,
    pictures: Mapping[str, bytes],
    answers: Answers | None = None,
) -> dict[str, bytes]:
    """Render the page and the figures of a plan, each figure once.

    Args:
        plan: The plan.
        plan_path: Where it lies, as a config is to name it.
        pictures: PNGs of some tiles by name; the page says so where there are none.
        answers: What the fine-tuned models of the plan say of some tiles; the page does without.

    Returns:
        The content of each file of :data:`REPORT` by its name.
    """
    similarity, scores = to_png(similarity_figure(plan)), to_png(scores_figure(plan))
    page = render_page(plan, pictures, lines_of(plan, plan_path), answers)
    return dict(zip(REPORT, (page.encode(), similarity, scores), strict=True))


def lines_of(plan: PruningPlan, plan_path: str) -> str:
    """The lines of a config that follow a plan; ``plan_path`` is where it lies."""
    backbone = plan.backbone
    blocks = backbone.blocks if backbone.family == BY_STRUCTURE else None
    return config_lines(backbone.name, plan.spec, plan_path, blocks)
