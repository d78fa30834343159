"""The report: one self-contained HTML page, and the figures in it."""

from terratorch_simpler.report.figures import (
    probe_figure,
    scores_figure,
    similarity_figure,
    to_png,
)
from terratorch_simpler.report.page import render_report

__all__ = ["probe_figure", "render_report", "scores_figure", "similarity_figure", "to_png"]
