"""``terratorch-simpler profile``: what every depth costs, as a table, a CSV file and a figure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console

from terratorch_simpler.files import check_free, results_folder, write_files
from terratorch_simpler.lightning import (
    check_accelerator,
    check_precision,
    find_device,
    find_precision,
)
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.tables import print_parts, profile_parts
from terratorch_simpler.task.config import TaskConfig

if TYPE_CHECKING:
    from terratorch_simpler.results.profile import Profile

RESULTS = ("profile.csv", "parts.csv", "profile.png")


def run(options: Namespace) -> None:
    """Run the command.

    Raises:
        ValueError: If an argument, the config or the backbone is wrong, or nothing fits.
        OSError: If a file is missing, is there already, or cannot be written.
    """
    check_options(options)
    name = Path(options.config).stem if options.config is not None else options.backbone
    folder = Path(options.output or f"{name}_profile")
    csv, parts, png = outputs = [folder / result for result in RESULTS]
    check_free(outputs, options.overwrite, option="--overwrite")
    console = Console(quiet=options.quiet, highlight=False)
    with results_folder(folder):
        profile = _measure(options, console)
        from terratorch_simpler.report.costs import profile_figure
        from terratorch_simpler.report.figures import to_png

        assert profile.split is not None
        files: dict[Path, str | bytes] = {
            csv: profile.to_csv(),
            parts: profile.split.to_csv(),
            png: to_png(profile_figure(profile)),
        }
        write_files(files, options.overwrite)
    show(console, profile)
    console.print(f"Written: {csv}, {parts}, {png}", soft_wrap=True)


def check_options(options: Namespace) -> None:
    """Refuse options that do not go together, before anything is loaded."""
    if (options.config is None) == (options.backbone is None):
        raise ValueError("name either the config of a task (--config) or a backbone (--backbone)")
    if options.config is not None and options.backbone_args is not None:
        raise ValueError("--backbone_args comes from the config: leave it out, or use --backbone")
    for name in ("batch_size", "size", "rounds"):
        if options[name] is not None and options[name] < 1:
            raise ValueError(f"{name} must be at least 1, got {options[name]}")
    if options.with_loader and options.config is None:
        raise ValueError("--with_loader measures the data of a config: name it with --config")
    check_accelerator(options.accelerator)
    check_precision(options.precision)


def _measure(options: Namespace, console: Console) -> Profile:
    config = TaskConfig.read(options.config) if options.config is not None else None
    device = find_device(options.accelerator)
    find_precision(options.precision, device)
    plan = PruningPlan.load(options.plan) if options.plan is not None else None
    console.print("Loading TerraTorch ...")
    from terratorch_simpler.profiling.batch import first_batch, random_example
    from terratorch_simpler.profiling.bench import BenchSettings
    from terratorch_simpler.profiling.loading import measure_loader
    from terratorch_simpler.profiling.profile import run_profile
    from terratorch_simpler.profiling.profiled import profiled_model
    from terratorch_simpler.task.profiled import profiled_config_model

    settings = BenchSettings(
        options.batch_size,
        options.rounds,
        options.every_depth,
        progress=not options.quiet and sys.stdout.isatty(),
        precision=options.precision,
        compile=options.compile,
    )
    if config is not None:
        profiled, datamodule = profiled_config_model(config, options.blocks)
    else:
        arguments = options.backbone_args or {}
        profiled, datamodule = profiled_model(options.backbone, options.blocks, **arguments), None
    loader = None
    if options.with_loader:
        if datamodule is None:
            raise ValueError(f"{options.config} has no data: leave --with_loader out")
        # Before its first batch is taken without augmentation.
        console.print("Measuring its training loader ...")
        loader = measure_loader(datamodule)
    if datamodule is None or options.size is not None:
        example = random_example(profiled, options.batch_size, options.size)
    else:
        try:
            example = first_batch(profiled, datamodule, options.batch_size)
        except ValueError as error:
            raise ValueError(f"{error}; --size N profiles on random images instead") from error
    console.print(f"Measuring {profiled.label} at up to {profiled.backbone.depth} depths ...")
    return run_profile(profiled, example, device, settings, plan, loader)


def show(console: Console, profile: Profile) -> None:
    """Print the table, and how good it is."""
    print_parts(console, profile_parts(profile))
