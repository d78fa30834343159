"""Tables of results: dataclasses as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

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
