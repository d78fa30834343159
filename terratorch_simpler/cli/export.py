"""``terratorch-simpler export``: a model in another format."""

from __future__ import annotations

from jsonargparse import Namespace
from rich.console import Console

from terratorch_simpler.cli.console import ConsoleReporter
from terratorch_simpler.exporting.export import COLUMNS, export
from terratorch_simpler.exporting.untrained import UNTRAINED
from terratorch_simpler.results.tables import print_parts, table


def run(options: Namespace) -> None:
    """Run the command.

    Raises:
        ValueError: If it cannot be exported, with the reason.
        OSError: If a file is missing, is there already, or cannot be written.
    """
    console = Console(quiet=options.quiet, highlight=False)
    reporter = ConsoleReporter(console, options.command_line)
    done = export(
        options.checkpoint,
        options.to,
        options.output,
        config=options.config,
        merge=options.merge,
        quantize=options.quantize,
        opset=options.opset,
        dynamic_size=options.dynamic_size,
        size=options.size,
        overwrite=options.overwrite,
        reporter=reporter,
    )
    rows = [one.row for one in done.measured]
    print_parts(console, [table(COLUMNS, rows, numbers=COLUMNS[1:])])
    console.print(
        f"Run on {done.tile}, each in a process of its own. Tolerance: {done.tolerance}.",
        soft_wrap=True,
    )
    if done.accuracy:
        rows = [
            (name, f"{before:.4f}", f"{after:.4f}")
            for name, (before, after) in done.accuracy.items()
        ]
        columns = ("on the validation tiles", "before", "after")
        print_parts(console, [table(columns, rows, numbers=columns[1:])])
    if not done.trained:
        console.print(UNTRAINED, soft_wrap=True)
    console.print("Written: " + ", ".join(map(str, done.files)), soft_wrap=True)
