"""Whether a rerun gives the committed results: ``python -m studies.show.compare TABLE``."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from studies.measure.run import committed
from studies.records import Row
from studies.tables import RESULTS, read_csv


@dataclass(frozen=True)
class Compared:
    """A row beside the committed one of the same cell.

    Attributes:
        committed: Accuracy that was committed.
        spread: The largest minus the smallest accuracy over the committed seeds of this cell, or
            the median of that over the cells of its task: three seeds can lie close by chance.
    """

    row: Row
    committed: float
    spread: float

    @property
    def agrees(self) -> bool:
        """Whether the two differ by no more than seeds do."""
        return abs(self.row.accuracy - self.committed) <= self.spread

    def __str__(self) -> str:
        row = self.row
        return (
            f"{row.task} {row.model} {row.method} {row.depth} seed {row.seed}: "
            f"{row.accuracy:.4f}, committed {self.committed:.4f}, spread over seeds "
            f"{self.spread:.4f}{'' if self.agrees else '  OUTSIDE'}"
        )


def compare(rows: Sequence[Row], known: Sequence[Row]) -> Iterator[Compared]:
    """Rows whose cell has been committed with several seeds.

    Raises:
        ValueError: If none has been.
    """
    seeds: dict[tuple[str, str, str, int], dict[int, float]] = defaultdict(dict)
    for row in known:
        seeds[row.task, row.model, row.method, row.depth][row.seed] = row.accuracy
    ranges: dict[str, list[float]] = defaultdict(list)
    for (task, *_), of in seeds.items():
        if len(of) > 1:
            ranges[task].append(max(of.values()) - min(of.values()))
    found = False
    for row in rows:
        of = seeds.get((row.task, row.model, row.method, row.depth), {})
        if row.seed in of and len(of) > 1:
            found = True
            own = max(of.values()) - min(of.values())
            yield Compared(row, of[row.seed], max(own, median(ranges[row.task])))
    if not found:
        raise ValueError("none of these cells is among the committed results with several seeds")


def main(table: Path, results: Path = RESULTS) -> int:
    """Print the comparison; 1 if a row lies outside the spread.

    Args:
        table: What ``studies.measure.run`` wrote.
        results: Folder of the committed tables.
    """
    if not table.is_file():
        raise FileNotFoundError(f"no table {table}: run the study first")
    compared = list(compare(read_csv(Row, table), committed(results)))
    print(*compared, sep="\n")
    return int(not all(row.agrees for row in compared))


if __name__ == "__main__":
    from jsonargparse import auto_cli

    sys.exit(auto_cli(main))
