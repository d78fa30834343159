"""Figures as SVG."""

from __future__ import annotations

import io

from matplotlib import rc_context
from matplotlib.figure import Figure


def to_svg(figure: Figure) -> bytes:
    """As SVG; the same figure gives the same bytes."""
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "studies"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
