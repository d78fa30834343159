"""``terratorch-simpler probe``: what every depth offers on labelled tiles, as table and files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console

from terratorch_simpler.cli.console import ConsoleReporter
from terratorch_simpler.files import check_free, results_folder, write_files
from terratorch_simpler.results.tables import print_parts, probe_parts
from terratorch_simpler.results.wording import with_probe
from terratorch_simpler.task.config import TaskConfig

if TYPE_CHECKING:
    from terratorch_simpler.results.plan import PruningPlan
    from terratorch_simpler.results.probe import Probe

RESULTS = ("probe.csv", "probe.json", "probe.png")


def run(options: Namespace) -> None:
    """Run the command.

    Raises:
        ValueError: If an argument, the config, the plan, the labels or the backbone is wrong.
        OSError: If a file is missing, is there already, or cannot be written.
    """
    config = Path(options.config)
    folder = Path(options.output or f"{config.stem}_probe")
    csv, json, png = (folder / name for name in RESULTS)
    planned = folder / "plan.json"
    outputs = [csv, json, png] + ([planned] if options.plan is not None else [])
    if options.plan is not None and Path(options.plan).resolve() == planned.resolve():
        raise ValueError(
            f"--plan {options.plan} is where the plan with the probe would be written, and yours "
            "is never overwritten: choose another --output"
        )
    check_free(outputs, options.overwrite, option="--overwrite")
    plan = _plan(options)
    console = Console(quiet=options.quiet, highlight=False)
    with results_folder(folder):
        probe = _measure(options, TaskConfig.read(config), plan, console)
        from terratorch_simpler.report.figures import probe_figure, to_png

        files: dict[Path, str | bytes] = {
            csv: probe.to_csv(),
            json: probe.to_json(),
            png: to_png(probe_figure(probe)),
        }
        if plan is not None:
            files[planned] = with_probe(plan, probe).to_json()
        write_files(files, options.overwrite)
    show(console, probe)
    console.print("Written: " + ", ".join(str(path) for path in files), soft_wrap=True)


def _plan(options: Namespace) -> PruningPlan | None:
    from terratorch_simpler.results.plan import PruningPlan

    return None if options.plan is None else PruningPlan.load(options.plan)


def _measure(
    options: Namespace, config: TaskConfig, plan: PruningPlan | None, console: Console
) -> Probe:
    console.print("Loading TerraTorch ...")
    from terratorch_simpler.probing.probe import ProbeSettings
    from terratorch_simpler.task.build import read_task
    from terratorch_simpler.task.probe import probe_task

    settings = ProbeSettings(
        samples=options.samples,
        seed=options.seed,
        accelerator=options.accelerator,
        progress=not options.quiet and sys.stdout.isatty(),
    )
    reporter = ConsoleReporter(console, options.command_line)
    return probe_task(read_task(config, options.blocks), settings, plan, reporter)


def show(console: Console, probe: Probe) -> None:
    """Print the table, and what it comes to."""
    print_parts(console, probe_parts(probe))
