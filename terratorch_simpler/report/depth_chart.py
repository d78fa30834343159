"""Values over one axis, as those of every depth: the geometry of the page's inline SVG.

Colours are classes, so that the page decides them, in light and in dark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from matplotlib.ticker import MaxNLocator

from terratorch_simpler.criteria import PROBE
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.probe import Probe
from terratorch_simpler.results.savings import Savings

WIDTH, LEFT, RIGHT = 640.0, 64.0, 12.0
"""Of a chart, and of its margins, in units of the drawing."""
HEIGHT, GAP = 130.0, 46.0
"""Of a panel, and of what lies between two."""


@dataclass(frozen=True)
class Mark:
    """A value at a depth.

    Attributes:
        x: Across, in units of the drawing.
        y: Down, likewise.
        base: Where its bar begins, or the lower end of its error.
        top: The upper end of its error.
        kind: Class that colours it.
        title: What is said where the pointer rests.
    """

    x: float
    y: float
    base: float
    top: float
    kind: str
    title: str


@dataclass(frozen=True)
class Line:
    """Values of one thing, joined by a line.

    Attributes:
        name: What they are of.
        kind: Class that colours the line and its name.
        marks: From left to right.
    """

    name: str
    kind: str
    marks: list[Mark]


@dataclass(frozen=True)
class Panel:
    """One quantity over depth, or over epochs.

    Attributes:
        name: What it is.
        how: How to read it.
        top: Where it begins, in units of the drawing.
        ticks: Places of ticks and what stands at them.
        bars: Values as bars.
        lines: Values as lines with points.
        zero: Where 0 lies, if within.
    """

    name: str
    how: str
    top: float
    ticks: list[tuple[float, str]]
    bars: list[Mark] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    zero: float | None = None


@dataclass(frozen=True)
class Scale:
    """From values to places: depths across, values of a panel down."""

    depths: int
    top: float
    low: float
    high: float

    def x(self, depth: float) -> float:
        """Middle of the column of a depth; column 0 is that of layer 0."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (depth + 0.5) / (self.depths + 1), 2)

    def y(self, value: float) -> float:
        """Where a value lies."""
        part = (value - self.low) / (self.high - self.low or 1.0)
        return round(self.top + HEIGHT * (1 - part), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """A few round values."""
        values = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        return [
            (self.y(value), f"{value:.4g}") for value in values if self.low <= value <= self.high
        ]


@dataclass(frozen=True)
class Chart:
    """Panels over one axis, of depths or of epochs.

    Attributes:
        panels: From top to bottom.
        axis: What the axis is.
        steps: Places of some of its values and their numbers.
        chosen: Place of the value that was chosen, if one was.
        height: Of all of it.
        column: Width of what a value of the axis has to itself.
        words: What it is in short, for those who do not see it.
    """

    panels: list[Panel]
    axis: str
    steps: list[tuple[float, str]]
    chosen: float | None
    height: float
    column: float
    words: str
    width: float = WIDTH
    left: float = LEFT
    panel: float = HEIGHT


def depth_chart(plan: PruningPlan) -> Chart:
    """Scores, resamples, labels and costs of every depth, where they are known."""
    total = plan.total_depth
    panels: list[Panel] = []

    def place() -> float:
        return 24 + len(panels) * (HEIGHT + GAP)

    # The scores of labels are those of the probe below.
    if plan.scores and plan.criterion != PROBE:
        panels.append(_scores(plan, place()))
    if plan.depth_shares:
        panels.append(_shares(plan, place()))
    if plan.probe is not None:
        panels.append(_probe(plan.probe, place()))
    if plan.savings is not None:
        panels.append(_costs(plan.savings, plan.depth, total, place()))
    scale = Scale(total, 0, 0, 1)
    every = max(1, -(-total // 24))
    shown = {*range(every, total + 1, every), plan.depth, total}
    names = ", ".join(panel.name for panel in panels)
    return Chart(
        panels,
        "depth (blocks kept)",
        [(scale.x(depth), str(depth)) for depth in sorted(shown)],
        scale.x(plan.depth),
        place() - GAP + 44,
        round(scale.x(1) - scale.x(0), 2),
        f"Every depth: {names}; the numbers are in the tables below",
    )


def _scores(plan: PruningPlan, top: float) -> Panel:
    low, high = min(plan.scores.values()), max(plan.scores.values())
    if low > 0 and low < 0.5 * high:
        low = 0.0
    scale = Scale(plan.total_depth, top, low, max(high, 0.0) if low < 0 else high)
    zero = scale.y(0) if low <= 0 <= scale.high else None
    base = zero if zero is not None else top + HEIGHT
    bars = [
        Mark(
            scale.x(depth),
            scale.y(score),
            base,
            scale.y(score),
            "kept" if depth == plan.depth else "other",
            f"depth {depth}: score {score:+.4f}{', kept' if depth == plan.depth else ''}",
        )
        for depth, score in sorted(plan.scores.items())
    ]
    how = "the largest score is kept"
    missing = [d for d in range(1, plan.total_depth + 1) if d not in plan.scores]
    if missing:
        how += f"; depths {', '.join(map(str, missing))} cannot be chosen by it"
    return Panel(f"Score ({plan.criterion})", how, top, scale.ticks(), bars, zero=zero)


def _shares(plan: PruningPlan, top: float) -> Panel:
    scale = Scale(plan.total_depth, top, 0.0, 1.0)
    bars = [
        Mark(
            scale.x(depth),
            scale.y(share),
            scale.y(0),
            scale.y(share),
            "kept" if depth == plan.depth else "other",
            f"depth {depth}: chosen by {share:.1%} of resamples",
        )
        for depth, share in sorted(plan.depth_shares.items())
    ]
    how = "how often each depth is chosen when the tiles are drawn anew: one bar near 1 is sure"
    return Panel("Share of resamples", how, top, scale.ticks(), bars)


def _probe(probe: Probe, top: float) -> Panel:
    errors = probe.errors or dict.fromkeys(probe.scores, 0.0)
    low = min(score - errors[layer] for layer, score in probe.scores.items())
    high = max(score + errors[layer] for layer, score in probe.scores.items())
    scale = Scale(probe.depth, top, low, high)
    marks = [
        Mark(
            scale.x(layer),
            scale.y(score),
            scale.y(score - errors[layer]),
            scale.y(score + errors[layer]),
            "best" if layer == probe.best else "value",
            f"layer {layer}: {probe.metric} {score:.3f}"
            + (f" (standard error to the best {errors[layer]:.3f})" if probe.errors else ""),
        )
        for layer, score in probe.scores.items()
    ]
    how = "a ridge on the frozen features of each layer, scored on labelled validation tiles"
    return Panel(
        f"Labels: {probe.metric}", how, top, scale.ticks(), lines=[Line("probe", "value", marks)]
    )


def _costs(savings: Savings, depth: int, total: int, top: float) -> Panel:
    """Shares of the full backbone's cost; between the two that were measured a straight line."""
    full, pruned = savings.full, savings.pruned
    pairs: dict[str, tuple[float, float]] = {
        "parameters": (full.parameters, pruned.parameters),
        "time": (full.seconds, pruned.seconds),
    }
    if full.memory is not None and pruned.memory is not None:
        pairs["memory"] = (full.memory, pruned.memory)
    scale = Scale(total, top, 0.0, max(1.0, *(b / a for a, b in pairs.values())))
    shares = {name: _straight(depth, total, b / a) for name, (a, b) in pairs.items()}
    lines = [Line(name, name, []) for name in shares]
    for at in range(depth, total + 1):
        # Points of several lines can lie on each other: each says all of them.
        said = ", ".join(f"{name} {values[at]:.0%}" for name, values in shares.items())
        title = f"depth {at}: {said} of the full backbone's"
        for line in lines:
            y = scale.y(shares[line.name][at])
            line.marks.append(Mark(scale.x(at), y, y, y, line.kind, title))
    how = "share of the full backbone's; measured at both ends of each line"
    return Panel("Cost", how, top, scale.ticks(), lines=lines)


def _straight(depth: int, total: int, share: float) -> Mapping[int, float]:
    """From the share at the kept depth to 1 at the full one."""
    if depth == total:
        return {total: 1.0}
    return {
        at: share + (1 - share) * (at - depth) / (total - depth) for at in range(depth, total + 1)
    }
