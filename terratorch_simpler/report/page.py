"""The HTML page of a selection."""

from __future__ import annotations

import base64
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray

from terratorch_simpler.report.figures import probe_figure, scores_figure, similarity_figure, to_png
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.savings import Savings
from terratorch_simpler.results.wording import (
    decision_sentence,
    doubts,
    others_rows,
    probe_rows,
    probe_sentence,
    savings_rows,
)


def render_report(
    plan: PruningPlan,
    savings: Savings | None,
    thumbnails: dict[str, NDArray[Any]],
    config_lines: str,
) -> str:
    """Render a plan as one HTML page that needs nothing from outside.

    Args:
        plan: The plan.
        savings: Measured costs, if they were.
        thumbnails: Some tiles as uint8 RGB by name.
        config_lines: The YAML to paste into a task config.

    Returns:
        The page's HTML.
    """
    environment = Environment(
        loader=PackageLoader("terratorch_simpler", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        plan=plan,
        sentence=decision_sentence(plan),
        doubts=doubts(plan),
        savings=savings_rows(savings) if savings else [],
        others=others_rows(plan),
        similarity=_uri(to_png(similarity_figure(plan))),
        scores=_uri(to_png(scores_figure(plan))),
        probe=_probe(plan),
        thumbnails={name: _uri(to_png(_picture(image), 72)) for name, image in thumbnails.items()},
        config_lines=config_lines,
    )


def _probe(plan: PruningPlan) -> dict[str, Any] | None:
    """What the page shows of a probe, if the plan holds one."""
    probe = plan.probe
    if probe is None:
        return None
    return {
        "sentence": probe_sentence(probe),
        "figure": _uri(to_png(probe_figure(probe))),
        "metrics": [probe.metric, "of the full depth", *probe.others],
        "rows": probe_rows(probe),
        "tiles": (probe.train_tiles, probe.val_tiles),
    }


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _picture(image: NDArray[Any]) -> Figure:
    height, width = image.shape[:2]
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image)
    axes.axis("off")
    return figure
