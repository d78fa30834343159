"""The HTML page of a selection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from terratorch_simpler.report.answers import answers_view
from terratorch_simpler.report.curves import curves_chart
from terratorch_simpler.report.depth_chart import depth_chart
from terratorch_simpler.report.pictures import uri
from terratorch_simpler.report.similarity_map import similarity_map
from terratorch_simpler.results.answers import Answers
from terratorch_simpler.results.finetuned import finetuned_rows
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.wording import (
    decision_sentence,
    others_rows,
    probe_columns,
    probe_rows,
    probe_sentence,
    savings_rows,
    scaling_sentence,
    tiles_sentence,
    warnings_of,
)


def render_page(
    plan: PruningPlan,
    pictures: Mapping[str, bytes],
    config_lines: str,
    answers: Answers | None = None,
) -> str:
    """Render a plan as one HTML page that needs nothing from outside.

    Args:
        plan: The plan.
        pictures: PNGs of some tiles by name.
        config_lines: The YAML to paste into a task config.
        answers: What the fine-tuned models of the plan say of some tiles.

    Returns:
        The page's HTML.
    """
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            plan=plan,
            sentence=decision_sentence(plan),
            doubts=warnings_of(plan),
            tiles=tiles_sentence(plan.tiles),
            scaling=scaling_sentence(plan.tiles),
            savings=savings_rows(plan.savings) if plan.savings is not None else [],
            finetuned=plan.finetuned or [],
            finetuned_rows=finetuned_rows(plan.finetuned) if plan.finetuned else [],
            curves=curves_chart(plan.finetuned or []),
            answers=answers_view(answers) if answers is not None else None,
            others=others_rows(plan),
            similarity=similarity_map(plan),
            chart=depth_chart(plan),
            probe=_probe(plan),
            pictures={name: uri(png) for name, png in pictures.items()},
            config_lines=config_lines,
        )
    )


def environment() -> Environment:
    """What renders the templates of this folder, with everything escaped."""
    return Environment(
        loader=PackageLoader("terratorch_simpler", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _probe(plan: PruningPlan) -> dict[str, Any] | None:
    """What the page shows of a probe, if the plan holds one."""
    probe = plan.probe
    if probe is None:
        return None
    return {
        "sentence": probe_sentence(probe),
        "columns": probe_columns(probe),
        "rows": probe_rows(probe),
        "tiles": (probe.train_tiles, probe.val_tiles),
    }
