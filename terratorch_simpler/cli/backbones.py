"""``terratorch-simpler backbones``: which backbones of the registry can be cut, or why not."""

from __future__ import annotations

import sys
from dataclasses import astuple
from typing import Any

from jsonargparse import Namespace
from rich.console import Console
from rich.progress import track
from rich.table import Table

COLUMNS = ("name", "family", "blocks", "depth", "width", "parameters", "why not, or what else")


def run(options: Namespace) -> None:
    """Run the command.

    Raises:
        ValueError: If no name matches.
    """
    console = Console(highlight=False)
    terminal = sys.stdout.isatty()
    if terminal:
        console.print("Loading TerraTorch ...")
    import terratorch  # noqa: F401 - fills the registry

    from terratorch_simpler.catalogue import entry_of, names
    from terratorch_simpler.lightning import quiet_lightning

    found = names(options.pattern)
    with quiet_lightning():
        entries = [
            entry_of(name)
            for name in track(
                found, f"{len(found)} backbones", disable=options.quiet or not terminal
            )
        ]
    if options.can_be_cut:
        entries = [entry for entry in entries if entry.family is not None]
    show(console, [astuple(entry) for entry in entries], plain=not terminal)
    if terminal:
        can = sum(entry.family is not None for entry in entries)
        console.print(f"{can} of {len(entries)} can be cut: simpler_NAME.")


def show(console: Console, rows: list[tuple[Any, ...]], plain: bool) -> None:
    """Print a table, or tab-separated lines for other programs."""
    if plain:
        print("\t".join(COLUMNS))
        for row in rows:
            print("\t".join("" if value is None else str(value) for value in row))
        return
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for *texts, parameters, reason in rows:
        millions = f"{parameters / 1e6:.1f} M" if parameters is not None else ""
        cells = ["" if text is None else str(text) for text in texts]
        table.add_row(*cells, millions, reason or "")
    console.print(table)
