"""Puts the tables of ``results/`` into the pages that show them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from studies.records import Cheaper, Choice, Judged, Labelled, Precision, Priced, Ranked, Row, Signs
from studies.show.accuracy_tables import frontier, methods, probe, retention
from studies.show.choice_tables import (
    cheaper,
    criteria,
    gallery,
    labels,
    precisions,
    rules,
    signs,
    stability,
)
from studies.show.curves import measured
from studies.tables import RESULTS, read_csv

ROOT = Path(__file__).parents[2]
EVIDENCE, README = ROOT / "docs" / "evidence.md", ROOT / "README.md"
GALLERY = ROOT / "docs" / "gallery.md"


def filled(page: str, made: dict[str, str]) -> str:
    """A page with its tables replaced: each stands between two comments that name it.

    Raises:
        ValueError: If the page has no place for one.
    """
    for name, table in made.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
        if begin not in page or end not in page:
            raise ValueError(f"the page has no place for the table {name}")
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        page = re.sub(pattern, lambda _: begin + table + end, page, flags=re.DOTALL)  # noqa: B023
    return page


def pages() -> dict[Path, str]:
    """The pages with the tables of today's results."""
    made = tables()
    plans = {"gallery": gallery(measured(), _read(Judged, "criteria"))}
    shown = {EVIDENCE: made, GALLERY: plans, README: {"frontier": made["frontier"]}}
    return {path: filled(path.read_text(), of) for path, of in shown.items()}


def tables() -> dict[str, str]:
    """All tables, as Markdown, by name."""
    found = measured()
    judged: list[Judged] = _read(Judged, "criteria")
    labelled: list[Labelled] = _read(Labelled, "labelled")
    other: list[Row] = _read(Row, "methods")
    choices: list[Choice] = _read(Choice, "choices")
    return {
        "retention": retention(found),
        "criteria": criteria(found, judged),
        "rules": rules(found, judged),
        "labels": labels(labelled, found),
        "signs": signs(_read(Signs, "signs")),
        "stability": stability(choices),
        "precisions": precisions(_read(Precision, "precisions")),
        "cheaper": cheaper(_read(Cheaper, "cheaper")),
        "probe": probe(_read(Ranked, "probe_rank"), labelled),
        "methods": methods(found, other),
        "frontier": frontier(_read(Priced, "frontier")),
    }


def _read(kind: Any, name: str) -> list[Any]:
    return read_csv(kind, RESULTS / f"{name}.csv")
