"""Run the tutorials and keep what they show: ``python -m scripts.run_tutorials [NOTEBOOK ...]``.

Each runs in a kernel of this environment. What it printed is kept as it looks in the end, without
the bars that were drawn over, and the times of its cells are not kept.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbmake.nb_result import NotebookResult
from nbmake.nb_run import NotebookRun

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
KERNEL = "tutorials"
STYLE = re.compile(r"\x1b\[[\d;]*m")
"""Colours and bold type of a terminal, which a page shows as characters."""
LINE_UP = re.compile(r"[^\n]*\n\x1b\[1A\x1b\[2K")
"""A line that a terminal takes away again, as rich does with its bars."""
CONTROL = re.compile(r"\x1b\[\??[\d;]*[A-Za-z]")
"""What else moves the cursor, clears a line or hides something."""
SECONDS = 900
"""Of a cell at most: a machine may be busy."""


def run(notebook: Path) -> NotebookResult:
    """Run a notebook as nbmake does, in a kernel of this very environment."""
    with own_kernel():
        return NotebookRun(notebook, default_timeout=SECONDS, kernel=KERNEL).execute()


@contextlib.contextmanager
def own_kernel() -> Iterator[None]:
    """Offer a kernel of this environment, whose commands are the first that are found.

    A kernel called ``python3`` may belong to another one.
    """
    from ipykernel.kernelspec import write_kernel_spec

    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        write_kernel_spec(Path(folder) / "kernels" / KERNEL)
        os.environ["JUPYTER_PATH"] = folder
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before["PATH"]])
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def tidy(notebook: NotebookNode) -> NotebookNode:
    """A notebook that was run, without the times of its cells and what was drawn over."""
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = list(_joined(cell.outputs))
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def _joined(outputs: list[NotebookNode]) -> Iterator[NotebookNode]:
    """Outputs with the parts of a stream in one, where something is left of it to see."""
    streams: dict[str, NotebookNode] = {}
    kept = []
    for output in outputs:
        if output.output_type != "stream":
            kept.append(output)
        elif output.name in streams:
            streams[output.name].text += output.text
        else:
            streams[output.name] = output
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = drawn(output.text)
            if not output.text.strip():
                continue
        yield output


def drawn(text: str) -> str:
    """Plain text as a terminal shows it in the end: a carriage return begins a line anew."""
    plain = CONTROL.sub("", LINE_UP.sub("", STYLE.sub("", text)))
    lines = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in plain.split("\n"))
    return "\n".join(lines)


def main() -> None:
    """Run the notebooks that are named, or all, and write them back."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    for notebook in parser.parse_args().notebooks or sorted(TUTORIALS.glob("*.ipynb")):
        print(notebook.name, flush=True)
        result = run(notebook)
        if result.error is not None:
            sys.exit(f"{notebook}: {result.error.summary}\n{result.error.trace}")
        nbformat.write(tidy(result.nb), notebook)


if __name__ == "__main__":
    main()
