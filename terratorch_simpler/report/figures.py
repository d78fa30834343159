"""Figures: a plan's similarity matrix and scores, and what every depth offers."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from terratorch_simpler.results.blocks import runs_of
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.probe import SHARE, Probe

KEPT, REMOVED, SHARE_COLOR = "#1b7f5c", "#9aa5b1", "#d9822b"


class ShownFigure(Figure):
    """A figure that a notebook shows, also where nobody imported pyplot."""

    def _repr_png_(self) -> bytes:
        return to_png(self, dpi=100)


def similarity_figure(plan: PruningPlan) -> Figure:
    """CKA between all layers, the kept part framed."""
    figure = ShownFigure(figsize=(5.6, 4.8), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(plan.similarity, vmin=0, vmax=1, cmap="viridis", origin="lower")
    for start, end in runs_of([0, *(block + 1 for block in plan.kept_blocks)]):
        side = end - start + 1
        corner = (start - 0.5, start - 0.5)
        axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor="white", linewidth=2))
    axes.set(
        xlabel="layer (0: input of the first block)",
        ylabel="layer",
        title=f"Linear CKA, kept: {plan.depth} of {plan.total_depth} blocks",
    )
    figure.colorbar(image, ax=axes, label="similarity")
    return figure


def scores_figure(plan: PruningPlan) -> Figure:
    """Score of every depth under the plan's criterion, and the bootstrap's share of each."""
    figure = ShownFigure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    depths = np.arange(1, plan.total_depth + 1)
    if plan.scores:
        scored = sorted(plan.scores)
        colors = [KEPT if depth == plan.depth else REMOVED for depth in scored]
        values = [plan.scores[depth] for depth in scored]
        base = 0.0 if min(values) <= 0 <= max(values) else min(values)
        axes.vlines(scored, base, values, colors=colors, linewidth=2)
        axes.scatter(scored, values, c=colors, zorder=3)
        if base == 0:
            axes.axhline(0, color="black", linewidth=0.6)
        axes.set_ylabel(f"score ({plan.criterion})")
    else:
        axes.text(0.5, 0.5, f"{plan.criterion}: depth named by the user", ha="center")
    if plan.depth_shares:
        twin = axes.twinx()
        shares = [plan.depth_shares.get(int(depth), 0.0) for depth in depths]
        twin.bar(depths, shares, color=SHARE_COLOR, alpha=0.3, width=0.8)
        twin.set(ylabel="share of resamples", ylim=(0, 1.05))
    axes.set(xlabel="depth (blocks kept)", xlim=(0.3, plan.total_depth + 0.7), xticks=depths[::2])
    axes.set_title(f"Depth {plan.depth} of {plan.total_depth}")
    return figure


def probe_figure(probe: Probe) -> Figure:
    """Score of every layer, with the depth that is good enough and the one that a plan chose."""
    figure = ShownFigure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    layers, scores = list(probe.scores), list(probe.scores.values())
    errors = None if probe.errors is None else [probe.errors[layer] for layer in layers]
    # Of the difference to the best depth, which has none.
    axes.errorbar(layers, scores, yerr=errors, color=KEPT, marker="o", capsize=2, elinewidth=1)
    share = SHARE if probe.asked_share is None else probe.asked_share
    reached = probe.reaches(share)
    if reached is not None:
        axes.axhline(share * probe.whole, color=REMOVED, linestyle="--", linewidth=1)
        whole = "the best" if probe.reference == "best" else "the full depth's"
        label = f"{100 * share:g}% of {whole} score: depth {reached}"
        axes.axvline(reached, color=REMOVED, linestyle="--", linewidth=1, label=label)
    within = probe.within_error
    if within is not None:
        label = f"within one standard error of the best: depth {within}"
        axes.axvline(within, color=KEPT, linestyle=":", linewidth=1.5, label=label)
    if probe.chosen is not None:
        label = f"chosen without labels: depth {probe.chosen}"
        axes.axvline(probe.chosen, color=SHARE_COLOR, linewidth=1.5, label=label)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    axes.set(
        xlabel="layer (0: input of the first block)",
        ylabel=probe.metric,
        title=f"{probe.backbone}: {probe.task}, frozen",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def picture(image: NDArray[np.uint8]) -> bytes:
    """A uint8 RGB image [H, W, 3] as the bytes of a PNG file."""
    height, width = image.shape[:2]
    figure = ShownFigure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image)
    axes.axis("off")
    return to_png(figure, dpi=72)


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.set_dpi(dpi)
    # One draw: Figure.savefig makes two of a figure with a layout, and the bytes are the same.
    # Without the software's version, the same plan gives the same bytes.
    canvas = FigureCanvasAgg(figure)
    canvas.print_png(buffer, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()
