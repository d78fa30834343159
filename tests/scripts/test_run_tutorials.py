"""What a tutorial keeps of what its cells showed."""

from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from scripts.run_tutorials import drawn, tidy


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("\rSelecting:   0%\rSelecting:  50%\r               \r", ""),
        ("\rSelecting:  50%\rdone\nnext\r\n", "done\nnext\n"),
        ("\x1b[1mkeeps\x1b[0m\x1b[35m 10\x1b[0m\n", "keeps 10\n"),
        ("\x1b[?25l\x1b[2Kmap.tif 1/9\n\x1b[1A\x1b[2KWritten\n", "Written\n"),
        ("plain\n  indented\n", "plain\n  indented\n"),
    ],
)
def test_what_was_drawn_over_is_gone(written: str, seen: str) -> None:
    assert drawn(written) == seen


def test_streams_are_joined_and_empty_ones_left_out() -> None:
    outputs = [
        new_output("stream", name="stdout", text="\rSelecting:   0%"),
        new_output("stream", name="stderr", text="warning: few tiles\n"),
        new_output("stream", name="stdout", text="\r               \r"),
        new_output("execute_result", data={"text/plain": "5"}, execution_count=1),
    ]
    cell = new_code_cell("select()", execution_count=1, outputs=outputs)
    cell.metadata["execution"] = {"iopub.execute_input": "2026-11-27T20:00:00Z"}
    notebook = tidy(new_notebook(cells=[cell]))
    nbformat.validate(notebook)
    (kept,) = notebook.cells
    assert [output.get("text") for output in kept.outputs] == ["warning: few tiles\n", None]
    assert kept.metadata == {}
