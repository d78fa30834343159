"""The figure of a profile: what every depth costs, and which part of the model it goes to."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from terratorch_simpler.report.figures import KEPT, SHARE_COLOR, ShownFigure
from terratorch_simpler.results.parts import BLOCKS, DECODER, HEAD, NECKS, NORM, PATCH, Split
from terratorch_simpler.results.profile import Profile

PART_COLORS = {
    PATCH: "#0072b2",
    BLOCKS: KEPT,
    NORM: "#f0e442",
    NECKS: "#56b4e9",
    DECODER: "#d55e00",
    HEAD: "#cc79a7",
}


def profile_figure(profile: Profile) -> ShownFigure:
    """What every depth costs; a mark is exact or measured, a line between marks interpolated.

    A thin line through a time is that of the fastest and the slowest round. Where the profile says
    what each part costs, the times of all depths are stacked by part as well.
    """
    columns = 3 if profile.split is None else 4
    figure = ShownFigure(figsize=(3.2 * columns, 5.6), layout="constrained")
    grid = figure.subplots(2, columns)
    panels = {
        "parameters (M)": ("parameters", 1e-6),
        "GFLOPs per batch": ("flops", 1e-9),
        "images per second": ("images_per_second", 1.0),
        "ms per batch at inference": ("inference_seconds", 1e3),
        "ms per training step": ("step_seconds", 1e3),
        "peak memory (MB)": ("inference_bytes", 1e-6),
    }
    depths = [row.depth for row in profile.rows]
    marked = [index for index, row in enumerate(profile.rows) if row.times == "measured"]
    for axes, (title, (name, unit)) in zip(grid[:, :3].flat, panels.items(), strict=True):
        lines = {name: KEPT}
        if name == "inference_bytes":
            lines["step_bytes"] = SHARE_COLOR
        for column, color in lines.items():
            values = [getattr(row, column) for row in profile.rows]
            if None in values:
                axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
                break
            label = "training step" if column == "step_bytes" else "inference"
            scaled = [unit * value for value in values]
            marks = None if column in ("parameters", "flops") else marked
            axes.plot(depths, scaled, color=color, marker="o", markevery=marks, label=label)
            kind = column.removesuffix("_seconds")
            for row in profile.rows if column != kind else ():
                ends = getattr(row, f"{kind}_fastest"), getattr(row, f"{kind}_slowest")
                if None not in ends:
                    axes.vlines(row.depth, unit * ends[0], unit * ends[1], color=color, linewidth=1)
        else:
            if len(lines) > 1:
                axes.legend(frameon=False)
        axes.set(title=title, xlabel="depth (blocks kept)")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if profile.split is not None:
        _stack(grid[0, 3], profile, profile.split, "inference")
        _stack(grid[1, 3], profile, profile.split, "step")
        grid[1, 3].legend(frameon=False, fontsize="x-small", loc="upper left")
    figure.suptitle(profile.title)
    return figure


def _stack(axes: Axes, profile: Profile, split: Split, kind: str) -> None:
    """Stack the time of each part over the depths: all but the blocks stay as they are."""
    stays = {
        part.name: part.inference_seconds if kind == "inference" else split.step_seconds_of(part)
        for part in split.parts
    }
    del stays[BLOCKS]
    rest = sum(stays.values())
    # Last, so that what stays is one height at every depth.
    heights = {name: [1e3 * seconds] * len(profile.rows) for name, seconds in stays.items()}
    heights[BLOCKS] = [
        1e3 * max(getattr(row, f"{kind}_seconds") - rest, 0.0) for row in profile.rows
    ]
    depths = [row.depth for row in profile.rows]
    colors = [PART_COLORS[name] for name in heights]
    axes.stackplot(depths, list(heights.values()), labels=list(heights), colors=colors)
    what = "at inference" if kind == "inference" else "per training step"
    axes.set(title=f"ms {what}, by part", xlabel="depth (blocks kept)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
