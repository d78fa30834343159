"""``terratorch-simpler select``: plan, report, figures and a ready config in one folder."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Any

from jsonargparse import Namespace
from rich.console import Console

from terratorch_simpler.cli.console import ConsoleReporter
from terratorch_simpler.criteria import PROBE
from terratorch_simpler.results.tables import plan_parts, print_parts
from terratorch_simpler.selection.settings import Settings
from terratorch_simpler.task.chips import Chips
from terratorch_simpler.task.run import TaskSelection
from terratorch_simpler.task.select import select_backbone, select_task


def run(options: Namespace) -> None:
    """Run the command.

    Raises:
        ValueError: If an argument, the config, the tiles or the backbone is wrong.
        OSError: If a file is missing, is there already, or cannot be written.
    """
    check_options(options)
    console = Console(quiet=options.quiet, highlight=False)
    settings = settings_of(options)
    chips = {field.name: options[field.name] for field in fields(Chips)}
    shared: dict[str, Any] = {
        "blocks": options.blocks,
        "overwrite": options.overwrite,
        "reporter": ConsoleReporter(console, options.command_line),
    }
    if options.config is not None:
        done = select_task(
            options.config,
            options.output,
            settings,
            tiles=options.tiles,
            probe=options.probe,
            convert=options.convert,
            **(chips if options.tiles is not None else {}),
            **shared,
        )
    else:
        done = select_backbone(
            options.backbone,
            options.output,
            settings,
            tiles=options.tiles,
            bands=options.bands,
            chips=Chips(**chips),
            pretrained=options.pretrained,
            arguments=options.backbone_args or {},
            **shared,
        )
    show(console, done)


def check_options(options: Namespace) -> None:
    """Refuse options that do not go together, before anything is loaded."""
    if (options.config is None) == (options.backbone is None):
        raise ValueError("name either the config of a task (--config) or a backbone (--backbone)")
    if options.probe and options.config is None:
        raise ValueError("--probe needs labels: name the config of a task (--config)")
    if options.criterion == PROBE and options.config is None:
        raise ValueError(f"--criterion {PROBE} needs labels: name the config of a task (--config)")
    if options.convert and options.config is None:
        raise ValueError("--convert needs a config to convert: name it (--config)")
    if options.config is not None:
        given = [name for name in ("backbone_args", "bands") if options[name] is not None]
        if given:
            raise ValueError(f"--{given[0]} comes from the config: leave it out, or use --backbone")
        if options.tiles is None:
            _check_chips(options)
        return
    for name in ("tiles", "bands"):
        if options[name] is None:
            raise ValueError(f"--backbone needs --{name}")


def _check_chips(options: Namespace) -> None:
    """Refuse what says how chips are read where the config's own tiles are."""
    # Of these the config's datamodule has its own, and they change no result.
    kept = ("batch_size", "num_workers")
    named = [
        field.name
        for field in fields(Chips)
        if field.name not in kept and options[field.name] != field.default
    ]
    if named:
        raise ValueError(
            f"--{named[0]} says how --tiles are read, and the tiles are the config's own: leave it "
            "out, or name files (--tiles)"
        )


def settings_of(options: Namespace) -> Settings:
    """How to select, as the options say.

    Raises:
        ValueError: If it cannot be right.
    """
    named = {field.name: options[field.name] for field in fields(Settings) if field.name in options}
    progress = not options.quiet and sys.stdout.isatty()
    return Settings(**named, early_stop=not options.no_early_stop, progress=progress)


def show(console: Console, done: TaskSelection) -> None:
    """Print the decision, what it saves, what the others would keep, and the files.

    What it saves of the whole model is said where there is one.

    Of several processes only the one that wrote has something to show.
    """
    plan = done.plan
    if console.quiet or not done.files:
        return
    print_parts(console, plan_parts(plan))
    if done.share is not None:
        console.print(done.share, soft_wrap=True)
    console.print("Written: " + ", ".join(map(str, done.files)), soft_wrap=True)
