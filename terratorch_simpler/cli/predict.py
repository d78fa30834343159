"""``terratorch-simpler predict``: maps of whole scenes from an exported model, without torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console

from terratorch_simpler.cli.console import ConsoleReporter
from terratorch_simpler.files import check_free, results_folder

if TYPE_CHECKING:
    from terratorch_simpler.predicting.job import Job
    from terratorch_simpler.predicting.predict import Made, Progress
    from terratorch_simpler.predicting.session import OnnxModel

LINES = 10
"""How many lines say how far a map is, where there is no terminal to draw a bar on."""


def run(options: Namespace) -> None:
    """Run the command.

    Raises:
        ValueError: If an argument, the model or a scene is wrong.
        OSError: If a file is missing, is there already, or cannot be written.
    """
    from terratorch_simpler.predicting.job import MapSettings, plan_map
    from terratorch_simpler.predicting.outputs import find_maps
    from terratorch_simpler.predicting.session import OnnxModel

    if options.num_threads < 0:
        raise ValueError(f"num_threads must be 0 (all cores) or more, got {options.num_threads}")
    settings = MapSettings(**{field.name: options[field.name] for field in fields(MapSettings)})
    maps = find_maps(options.scenes, options.output)
    if not options.resume:
        check_free(list(maps), options.overwrite, "--overwrite (--resume keeps those it made)")
    console = Console(quiet=options.quiet, highlight=False, soft_wrap=True)
    model = OnnxModel(options.model, options.num_threads)
    jobs = [plan_map(model, files, path, settings) for path, files in maps.items()]
    if options.resume:
        jobs = _left(jobs, console, options.overwrite)
    if not jobs:
        return
    with results_folder(jobs[0].path.parent):
        made = list(_make(model, jobs, options, console))
    if len(maps) > 1:
        pixels, seconds = sum(one.pixels for one in made), sum(one.seconds for one in made)
        console.print(f"{len(made)} maps: {_cost(pixels, seconds)}")


def _left(jobs: Sequence[Job], console: Console, overwrite: bool) -> list[Job]:
    """The maps that are still to be made."""
    left = [job for job in jobs if not job.is_made()]
    check_free(
        [job.path for job in left], overwrite, "--overwrite: of another model, scene or settings"
    )
    if len(left) < len(jobs):
        console.print(f"{len(jobs) - len(left)} of {len(jobs)} maps are there already")
    return left


def _make(
    model: OnnxModel, jobs: Sequence[Job], options: Namespace, console: Console
) -> Iterator[Made]:
    from terratorch_simpler.predicting.partial import folder_of
    from terratorch_simpler.predicting.predict import make_map

    reporter = ConsoleReporter(console, options.command_line)
    for job in jobs:
        count = len(job.tiling)
        console.print(
            f"{job.scene.name.rpartition('/')[2]}: {job.scene.height:,} x {job.scene.width:,} px, "
            f"{count:,} window{'s' * (count != 1)}"
        )
        try:
            with _progress(console, job.path) as progress:
                made = make_map(model, job, options.batch_size, reporter, progress)
        except KeyboardInterrupt:
            how = "with --resume " if len(jobs) > 1 else ""
            console.print(
                f"Stopped: what is finished of {job.path} is kept in {folder_of(job.path)}; the "
                f"same command {how}goes on from there"
            )
            raise
        console.print(
            f"Written: {made.path} ({_cost(made.pixels, made.seconds, made.done_before)})"
        )
        yield made


@contextmanager
def _progress(console: Console, path: Path) -> Iterator[Progress]:
    """A bar on a terminal; else a line at each tenth."""
    if console.quiet:
        yield lambda done, total: None
    elif sys.stdout.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(path.name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        said = 0

        def say(done: int, total: int) -> None:
            nonlocal said
            if (tenths := done * LINES // total) > said and done < total:
                said = tenths
                console.print(f"{path.name}: {done:,} of {total:,} windows")

        yield say


def _cost(pixels: int, seconds: float, done_before: float = 0) -> str:
    megapixels = pixels * (1 - done_before) / 1e6
    rest = " that were left" if done_before else ""
    each = f", {seconds / megapixels:.2f} s a megapixel" if megapixels else ""
    return f"{megapixels:,.2f} megapixels{rest} in {seconds:,.1f} s{each}"
