"""The tutorials: kept as they were run, clean of where that was, and run again."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from scripts.run_tutorials import TUTORIALS, run
from tests.docs.pages import NOTEBOOKS, named

MOST_BYTES = 1_000_000
MOST_LINES = 60
"""Of a cell: a config or a datamodule written out is the longest."""
ELSEWHERE = re.compile(
    r"(?<![\w.)>])/(?:content|home|mnt|opt|private|root|tmp|usr|var|work|Users)/|[A-Z]:\\"
)
"""Paths of a machine."""
FAILED = re.compile(r"^\S+: error: ", re.M)
"""How a command says that it failed."""
notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=named)


def read(path: Path) -> NotebookNode:
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_of(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(notebook: NotebookNode) -> list[str]:
    """All that is to be read in it: sources and outputs, without pictures."""
    found = [cell.source for cell in notebook.cells]
    for cell in code_of(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            found += [output.get("text", ""), *(data[kind] for kind in data if "image" not in kind)]
    return [re.sub(r"base64,[\w+/=]+", "", text) for text in found]


@notebooks
def test_it_is_kept_as_it_was_run(path: Path) -> None:
    cells = code_of(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@notebooks
def test_it_shows_no_noise_and_no_place(path: Path) -> None:
    notebook = read(path)
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert [text for text in texts(notebook) if ELSEWHERE.search(text)] == []
    # What was drawn over is gone.
    assert [text for text in texts(notebook) if "\r" in text] == []


@notebooks
def test_it_is_short(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    notebook = read(path)
    assert notebook.cells[0].source.startswith("# ")
    assert max(len(cell.source.splitlines()) for cell in notebook.cells) <= MOST_LINES


class Runs:
    """A notebook is run; one class each, so that workers of pytest share them."""

    name: str

    @pytest.mark.long
    def test_it_runs(self) -> None:
        result = run(TUTORIALS / f"{self.name}.ipynb")
        assert result.error is None, result.error.trace
        # A command that fails stops no notebook.
        assert [text for text in texts(result.nb) if FAILED.search(text)] == []


class TestFirstCut(Runs):
    name = "first_cut"


class TestYourOwnConfig(Runs):
    name = "your_own_config"


class TestWithLabels(Runs):
    name = "with_labels"


class TestDeploy(Runs):
    name = "deploy"


def test_every_tutorial_is_run() -> None:
    assert {one.name for one in Runs.__subclasses__()} == {path.stem for path in NOTEBOOKS}


def test_a_tutorial_runs_in_this_environment(tmp_path: Path) -> None:
    cells = ["import sys; print(sys.prefix)", '!python -c "import sys; print(sys.prefix)"']
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata = {"kernelspec": {"name": "of_another_machine"}}
    nbformat.write(notebook, tmp_path / "where.ipynb")
    result = run(tmp_path / "where.ipynb")
    assert result.error is None
    said = [cell.outputs[0].text.strip() for cell in result.nb.cells]
    assert said == [sys.prefix, sys.prefix]
