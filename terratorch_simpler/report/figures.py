"""Figures of a plan: the similarity matrix and the score of every depth."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from terratorch_simpler.plan import PruningPlan
from terratorch_simpler.wording import runs_of

KEPT, REMOVED, SHARE = "#1b7f5c", "#9aa5b1", "#d9822b"


def similarity_figure(plan: PruningPlan) -> Figure:
    """CKA between all layers, the kept part framed."""
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
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
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
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
        twin.bar(depths, shares, color=SHARE, alpha=0.3, width=0.8)
        twin.set(ylabel="share of resamples", ylim=(0, 1.05))
    axes.set(xlabel="depth (blocks kept)", xlim=(0.3, plan.total_depth + 0.7), xticks=depths[::2])
    axes.set_title(f"Depth {plan.depth} of {plan.total_depth}")
    return figure


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    # Without the software's version, the same plan gives the same bytes.
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
