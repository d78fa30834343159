"""Rows of studies that were never run."""

from __future__ import annotations

from pathlib import Path

from studies.measure.compose import Folders
from studies.measure.run import Cell
from studies.records import Row

FOLDERS = Folders(Path("sources"), Path("data"), Path("weights"))


def row_of(cell: Cell) -> Row:
    """The row of a cell; its accuracy grows with depth and seed."""
    accuracy = cell.depth / 100 + cell.seed / 10
    return Row(
        cell.task, cell.model, cell.method, cell.depth, cell.seed, "mIoU", accuracy, 7, 10, 1.5, 1
    )
