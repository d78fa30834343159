"""The report of a plan: one self-contained HTML page, and the figures in it. Needs no torch."""

from terratorch_simpler.report.figures import (
    picture,
    probe_figure,
    scores_figure,
    similarity_figure,
    to_png,
)
from terratorch_simpler.report.pictures import read_pictures
from terratorch_simpler.report.render import PAGE, REPORT, report_files

__all__ = [
    "PAGE",
    "REPORT",
    "picture",
    "probe_figure",
    "read_pictures",
    "report_files",
    "scores_figure",
    "similarity_figure",
    "to_png",
]
