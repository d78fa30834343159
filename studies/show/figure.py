"""The figure of the study: what every depth keeps, and what is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from studies.measure.compose import CONTROL
from terratorch_simpler.results.probe import SHARE

if TYPE_CHECKING:
    from studies.records import Judged, Probed
    from studies.show.curves import Curve

COLUMNS = 3
CHOOSES = {"simpler": "v", "stabilization": "^"}
COLORS = {"dinov2": "#b0413e", "mae12": "#1b7f5c", "mae24": "#3467a8", "mae_pictures": "#7a4fa3"}
CONTROL_COLOR, OTHER_COLOR = "#9aa5b1", "#d9822b"


def retention_figure(
    curves: dict[tuple[str, str], Curve], judged: Sequence[Judged], probed: Sequence[Probed]
) -> Figure:
    """One panel a task: accuracy over that of the full pre-trained depth, against blocks kept.

    Args:
        curves: By task and model; random weights are shown over the same full depth.
        judged: Of these, the choices from most tiles of tokens are marked.
        probed: Frozen probes, over their own full depth.
    """
    tasks = sorted({task for task, _ in curves})
    rows = -(-len(tasks) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 3 * rows + 0.5), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).flat)
    for axes in panels[len(tasks) :]:
        axes.remove()
    for axes, task in zip(panels, tasks, strict=False):
        for (of, model), curve in curves.items():
            if of == task and (task, model.removesuffix(CONTROL)) in curves:
                _draw(axes, model, curve, curves, judged, probed)
        axes.axhline(SHARE, color="black", linewidth=0.6, linestyle=":")
        axes.set(title=task, xlabel="share of the blocks kept", xlim=(0, 1.03))
    figure.supylabel("share of the full depth's accuracy")
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    for criterion, marker in CHOOSES.items():
        handles[f"chosen by {criterion}"] = Line2D([], [], color="black", marker=marker, ls="")
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles) // 2)
    return figure


def _draw(
    axes: Any,
    model: str,
    curve: Curve,
    curves: dict[tuple[str, str], Curve],
    judged: Sequence[Judged],
    probed: Sequence[Probed],
) -> None:
    task, total = curve.rows[0].task, curve.total
    trained = model.removesuffix(CONTROL)
    full = curves[task, trained].rows[-1].accuracy
    shares = [row.depth / total for row in curve.rows]
    means = [row.accuracy / full for row in curve.rows]
    spread = [row.spread / 2 / full for row in curve.rows]
    if model != trained:
        axes.errorbar(
            shares, means, spread, color=CONTROL_COLOR, label="random weights", linewidth=1
        )
        return
    color = COLORS.get(model, OTHER_COLOR)
    axes.errorbar(shares, means, spread, color=color, label=model, linewidth=1.5)
    of = [row for row in probed if (row.task, row.model) == (task, model) and row.depth > 0]
    # The metric of the task comes last where it is not the probe's own.
    scores = [row for row in of if row.metric == of[-1].metric]
    if scores:
        whole = max(scores, key=lambda row: row.depth).score
        axes.plot(
            [row.depth / total for row in scores],
            [row.score / whole for row in scores],
            color=color,
            linestyle="--",
            linewidth=0.8,
            label=f"{model}, frozen probe",
        )
    for criterion, marker in CHOOSES.items():
        chosen = [
            row
            for row in judged
            if (row.task, row.model, row.pooling, row.criterion)
            == (task, model, "tokens", criterion)
        ]
        if chosen:
            row = max(chosen, key=lambda row: row.tiles)
            axes.plot(row.depth / total, curve.retained(row.depth), marker, color=color, ms=9)
