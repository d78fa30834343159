"""How records look to a person: in a terminal, in a notebook, as a figure, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path

from matplotlib.figure import Figure

from terratorch_simpler.files import write_files
from terratorch_simpler.report.costs import profile_figure
from terratorch_simpler.report.figures import (
    probe_figure,
    scores_figure,
    similarity_figure,
    to_png,
)
from terratorch_simpler.report.page import environment
from terratorch_simpler.report.pictures import uri
from terratorch_simpler.report.render import PAGE, lines_of, report_files
from terratorch_simpler.results.limits import limit_lines
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.probe import Probe
from terratorch_simpler.results.profile import Profile
from terratorch_simpler.results.tables import (
    PART_COLUMNS,
    as_text,
    part_rows,
    plan_parts,
    probe_parts,
    profile_columns,
    profile_parts,
    profile_rows,
)
from terratorch_simpler.results.wording import (
    decision_sentence,
    probe_columns,
    probe_rows,
    probe_sentence,
    warnings_of,
)

DPI = 80
"""Of figures in a notebook: small, as they are stored in it."""
PLAN = "plan.json"
"""Where the lines for a config take the plan to be."""


@singledispatch
def summary(record: object) -> str:
    """What the command prints of a record, as text.

    Raises:
        TypeError: If it is no record.
    """
    raise TypeError(f"no record: {type(record).__name__}")


@summary.register
def _(record: PruningPlan) -> str:
    return as_text(plan_parts(record, warnings_of(record)))


@summary.register
def _(record: Probe) -> str:
    return as_text(probe_parts(record))


@summary.register
def _(record: Profile) -> str:
    return as_text(profile_parts(record))


@singledispatch
def figure(record: object, what: str | None) -> Figure:
    """A figure of a record.

    Args:
        record: A plan, probe or profile.
        what: Which one of a plan: ``scores``, ``similarity`` or ``probe``; None for the first.

    Raises:
        TypeError: If it is no record.
        ValueError: If there is no such figure.
    """
    del what
    raise TypeError(f"no record: {type(record).__name__}")


@figure.register
def _(record: PruningPlan, what: str | None) -> Figure:
    if what == "probe" and record.probe is not None:
        return probe_figure(record.probe)
    draw = {"scores": scores_figure, "similarity": similarity_figure}.get(what or "scores")
    if draw is None:
        there = ["scores", "similarity", *(["probe"] if record.probe is not None else [])]
        raise ValueError(f"this plan has the figures {', '.join(there)}, got '{what}'")
    return draw(record)


@figure.register
def _(record: Probe, what: str | None) -> Figure:
    del what
    return probe_figure(record)


@figure.register
def _(record: Profile, what: str | None) -> Figure:
    del what
    return profile_figure(record)


@singledispatch
def html(record: object) -> str:
    """A short report of a record for a notebook; it needs nothing from outside.

    Raises:
        TypeError: If it is no record.
    """
    raise TypeError(f"no record: {type(record).__name__}")


@html.register
def _(record: PruningPlan) -> str:
    rows = [
        (
            str(depth),
            f"{score:.4f}",
            f"{record.depth_shares.get(depth, 0):.0%}" if record.depth_shares else "-",
            "kept" if depth == record.depth else "",
        )
        for depth, score in sorted(record.scores.items())
    ]
    return _render(
        record,
        decision_sentence(record),
        ("depth", f"score ({record.criterion})", "share of resamples", ""),
        rows,
        warnings=warnings_of(record),
        lines=lines_of(record, PLAN),
    )


@html.register
def _(record: Probe) -> str:
    return _render(record, probe_sentence(record), probe_columns(record), probe_rows(record))


@html.register
def _(record: Profile) -> str:
    split = record.split
    return _render(
        record,
        record.title,
        profile_columns(record),
        profile_rows(record),
        parts=(("part", *PART_COLUMNS), part_rows(split)) if split is not None else None,
        notes=[*limit_lines(record), *(f"slow: {line}" for line in record.findings)],
    )


def _render(
    record: object,
    sentence: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    warnings: Sequence[str] = (),
    lines: str | None = None,
    parts: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None,
    notes: Sequence[str] = (),
) -> str:
    return (
        environment()
        .get_template("notebook.html.jinja")
        .render(
            sentence=sentence,
            warnings=warnings,
            columns=columns,
            rows=rows,
            figure=uri(to_png(figure(record, None), DPI)),
            lines=lines,
            parts=parts,
            notes=notes,
        )
    )


def write_page(record: object, path: Path, overwrite: bool) -> None:
    """Write the report of a plan: :data:`~terratorch_simpler.report.PAGE` where a folder is named.

    Raises:
        TypeError: If it is no plan.
        FileExistsError: If there is a file already and ``overwrite`` is False.
        OSError: If it cannot be written.
    """
    if not isinstance(record, PruningPlan):
        raise TypeError(f"no plan: {type(record).__name__}")
    page = path / PAGE if path.is_dir() else path
    write_files({page: report_files(record, PLAN, {})[PAGE]}, overwrite)
