"""Every file of a report, from the plan alone."""

from __future__ import annotations

from collections.abc import Mapping

from terratorch_simpler.report.figures import scores_figure, similarity_figure, to_png
from terratorch_simpler.report.page import render_page
from terratorch_simpler.results import BY_STRUCTURE
from terratorch_simpler.results.lines import config_lines
from terratorch_simpler.results.plan import PruningPlan

PAGE = "report.html"
REPORT = (PAGE, "similarity.png", "scores.png")
"""Names of a report's files."""


def report_files(
    plan: PruningPlan, plan_path: str, pictures: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Render the page and the figures of a plan, each figure once.

    Args:
        plan: The plan.
        plan_path: Where it lies, as a config is to name it.
        pictures: PNGs of some tiles by name; the page says so where there are none.

    Returns:
        The content of each file of :data:`REPORT` by its name.
    """
    backbone = plan.backbone
    blocks = backbone.blocks if backbone.family == BY_STRUCTURE else None
    lines = config_lines(backbone.name, plan.spec, plan_path, blocks)
    similarity, scores = to_png(similarity_figure(plan)), to_png(scores_figure(plan))
    page = render_page(plan, similarity, scores, pictures, lines)
    return dict(zip(REPORT, (page.encode(), similarity, scores), strict=True))
