"""The similarity matrix as coloured squares: the geometry of the page's inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import colormaps
from matplotlib.colors import to_hex

from terratorch_simpler.results.blocks import runs_of
from terratorch_simpler.results.plan import PruningPlan

SIDE = 400.0
"""Of the map, in units of the drawing."""


@dataclass(frozen=True)
class Cell:
    """Similarity of two layers: place, colour and words."""

    x: float
    y: float
    color: str
    title: str


@dataclass(frozen=True)
class SimilarityMap:
    """CKA between all layers, as coloured squares.

    Attributes:
        cells: The squares.
        size: Side of a square.
        kept: Corner and side of each run of kept layers.
        low: Similarity of the darkest colour.
        ticks: Places of layers and their numbers.
        scale: Colours from the lowest value to 1.
    """

    cells: list[Cell]
    size: float
    kept: list[tuple[float, float, float]]
    low: float
    ticks: list[tuple[float, str]]
    scale: Sequence[str]
    side: float = SIDE


def similarity_map(plan: PruningPlan) -> SimilarityMap:
    """The similarity matrix of a plan, scaled to its values."""
    colors = colormaps["viridis"]
    layers = plan.total_depth + 1
    size = SIDE / layers
    low = float(plan.similarity.min())
    span = 1 - low or 1.0
    cells = [
        Cell(
            round(column * size, 2),
            round((layers - 1 - row) * size, 2),
            to_hex(colors((value - low) / span)),
            f"layers {row} and {column}: {value:.3f}",
        )
        for row, values in enumerate(plan.similarity.tolist())
        for column, value in enumerate(values)
    ]
    runs = runs_of([0, *(block + 1 for block in plan.kept_blocks)])
    kept = [
        (
            round(start * size, 2),
            round((layers - 1 - end) * size, 2),
            round((end - start + 1) * size, 2),
        )
        for start, end in runs
    ]
    every = max(1, -(-layers // 13))
    ticks = [(round((at + 0.5) * size, 2), str(at)) for at in range(0, layers, every)]
    scale = [to_hex(colors(step / 10)) for step in range(11)]
    return SimilarityMap(cells, round(size + 0.05, 2), kept, low, ticks, scale)
