"""The figure of the results: every ratio with its spread."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

ROW, HEADER = 0.28, 0.9
"""Inches."""


def ratios_in(results: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """The ratios by section and name, in their order."""
    found = {
        section: {
            name: value
            for name, value in values.items()
            if isinstance(value, dict) and "median" in value
        }
        for section, values in results.items()
        if isinstance(values, dict)
    }
    return {section: ratios for section, ratios in found.items() if ratios}


def draw(results: dict[str, Any]) -> bytes:
    """An SVG with one panel a section: median, least and largest of every ratio."""
    sections = ratios_in(results)
    heights = [HEADER + ROW * len(ratios) for ratios in sections.values()]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    panels = figure.subplots(len(sections), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (section, ratios) in zip(panels, sections.items(), strict=True):
        names = list(ratios)
        for place, ratio in enumerate(ratios.values()):
            axes.plot([ratio["min"], ratio["max"]], [place, place], color="#9aa5b1", linewidth=3)
            axes.plot(ratio["median"], place, "o", color="#1b7f5c")
            axes.annotate(
                f"{ratio['median']:.2f}",
                (ratio["median"], place),
                (0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
        axes.axvline(1, color="black", linewidth=0.6)
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=8)
        axes.set_ylim(len(names) - 0.5, -0.7)
        axes.set_title(section, loc="left", fontsize=10)
    figure.supxlabel(f"ratio; {results['machine']}, torch {results['versions']['torch']}", size=8)
    file = io.BytesIO()
    # Without a date, so that the same results give the same file.
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
