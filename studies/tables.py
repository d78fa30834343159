"""Tables of results: dataclasses as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from terratorch_simpler.files import write_files

RESULTS = Path(__file__).parent / "results"
"""What is committed."""


def to_csv(kind: Any, rows: Sequence[Any]) -> str:
    """Rows of one dataclass, with a header; None is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def read_csv(kind: Any, table: Path) -> list[Any]:
    """The rows of a file; none if there is no file.

    Raises:
        ValueError: If they are not of this kind.
    """
    if not table.is_file():
        return []
    with table.open(newline="") as file:
        rows: list[Any] = TypeAdapter(list[kind]).validate_python(list(csv.DictReader(file)))
    return rows


def complete(
    kind: Any,
    table: Path,
    cases: Iterable[tuple[str, ...]],
    make: Callable[..., Iterable[Any]],
) -> Iterator[list[Any]]:
    """Make the rows of the cases that have none yet; each case is written before the next starts.

    Args:
        kind: Dataclass of the rows; its first fields name the case.
        table: The CSV file of results, which is added to.
        cases: What there should be rows of.
        make: Gives the rows of a case, whose parts are its arguments.

    Yields:
        The new rows of a case.
    """
    rows = read_csv(kind, table)
    for case in cases:
        if not any(astuple(row)[: len(case)] == case for row in rows):
            made = list(make(*case))
            rows += made
            write_files({table: to_csv(kind, rows)}, overwrite=True)
            yield made
