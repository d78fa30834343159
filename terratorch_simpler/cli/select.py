"""``terratorch-simpler select``: plan, report, figures and a ready config in one folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table

from terratorch_simpler.cli.probe import check_task, probe_task
from terratorch_simpler.cli.probe import show as show_probe
from terratorch_simpler.files import check_free, results_folder, write_files
from terratorch_simpler.messages import one_line
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.wording import (
    decision_sentence,
    describe,
    others_rows,
    savings_rows,
)

if TYPE_CHECKING:
    from terratorch_simpler.selection.select import Selection
    from terratorch_simpler.task.config import Task

RESULTS = ("plan.json", "report.html", "similarity.png", "scores.png")


@dataclass(frozen=True)
class Results:
    """What a selection wrote: the plan, and where everything lies."""

    plan: PruningPlan
    folder: Path
    config: Path | None


def run(options: Namespace) -> None:
    """Run the command.

    Raises:
        ValueError: If an argument, the config, the tiles or the backbone is wrong.
        OSError: If a file is missing, is there already, or cannot be written.
    """
    check_options(options)
    select_to_folder(options)


def check_options(options: Namespace) -> None:
    """Refuse options that do not go together, before anything is loaded."""
    if (options.config is None) == (options.backbone is None):
        raise ValueError("name either the config of a task (--config) or a backbone (--backbone)")
    if options.probe and options.config is None:
        raise ValueError("--probe needs labels: name the config of a task (--config)")
    if options.probe and (options.devices, options.num_nodes) != (1, 1):
        raise ValueError("--probe runs on one device: leave out --devices and --num_nodes")
    if options.config is not None:
        given = [name for name in ("backbone_args", "bands") if options[name] is not None]
        if given:
            raise ValueError(f"--{given[0]} comes from the config: leave it out, or use --backbone")
        return
    for name in ("tiles", "bands"):
        if options[name] is None:
            raise ValueError(f"--backbone needs --{name}")


def select_to_folder(options: Namespace) -> Results:
    """Select and write everything into the output folder, all of it or nothing."""
    config = Path(options.config) if options.config is not None else None
    name = config.stem if config else options.backbone
    folder = Path(options.output or f"{name}_simpler")
    rewritten = folder / f"{name}_simpler.yaml" if config else None
    outputs = [folder / result for result in RESULTS] + ([rewritten] if rewritten else [])
    check_free(outputs, options.overwrite, option="--overwrite")
    with results_folder(folder):
        return _select(options, config, folder, rewritten)


def _select(
    options: Namespace, config: Path | None, folder: Path, rewritten: Path | None
) -> Results:
    console = Console(quiet=options.quiet, highlight=False)
    console.print("Loading TerraTorch ...")
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from terratorch_simpler.lightning import rank
    from terratorch_simpler.selection.select import run_selection
    from terratorch_simpler.selection.settings import Settings

    # Every process of a selection on several devices runs this; one of them reports and writes.
    first = rank() == 0
    console.quiet = options.quiet or not first
    settings = Settings(
        criterion=options.criterion,
        depth=options.depth,
        pooling=options.pooling,
        tokens=options.tokens,
        samples=options.samples,
        seed=options.seed,
        early_stop=not options.no_early_stop,
        accelerator=options.accelerator,
        devices=options.devices,
        num_nodes=options.num_nodes,
        precision=options.precision,
        progress=first and not options.quiet and sys.stdout.isatty(),
    )
    task = None
    if config:
        task, tiles = _from_config(config, options)
        backbone = task.backbone
    else:
        backbone, tiles = _from_options(options)
    console.print(f"Measuring {backbone.depth} blocks of {backbone.label} ...")
    try:
        selection = run_selection(backbone, tiles, settings)
    except (MisconfigurationException, ImportError) as error:
        raise ValueError(
            f"Lightning cannot run with --accelerator {options.accelerator} and --precision "
            f"{options.precision}: {one_line(error)}"
        ) from error
    if task is not None and options.probe:
        selection = _with_probe(selection, task, options, console)
    if not first:
        return Results(selection.plan, folder, rewritten)
    files, plan = _render(selection, backbone, folder, config, rewritten, options.blocks)
    write_files(files, options.overwrite)
    if not console.quiet:
        if plan.probe is not None:
            show_probe(console, plan.probe)
        show(console, plan, [str(path) for path in files])
    return Results(plan, folder, rewritten)


def _with_probe(
    selection: Selection, task: Task, options: Namespace, console: Console
) -> Selection:
    """The selection with what every depth offers on the labelled tiles in its plan."""
    from terratorch_simpler.probing.probe import ProbeSettings

    progress = not options.quiet and sys.stdout.isatty()
    settings = ProbeSettings(seed=options.seed, accelerator=options.accelerator, progress=progress)
    plan = selection.plan
    probe = probe_task(task, Path(options.config), settings, plan, console)
    return replace(selection, plan=plan.model_copy(update={"probe": probe}))


def _from_config(config: Path, options: Namespace) -> tuple[Task, Any]:
    from terratorch_simpler.task.config import read_task

    task = read_task(config, options.blocks)
    if options.probe:
        # Better before the selection than after it.
        check_task(task, config)
    if options.tiles is None:
        if task.datamodule is None:
            raise ValueError(f"{config} has no data: add it, or give tiles with --tiles")
        return task, task.datamodule
    if task.bands is None:
        raise ValueError(f"{config} names no backbone_bands: add them to use --tiles")
    means, stds = task.normalisation() or (None, None)
    held = options.dataset_bands or task.dataset_bands
    return task, _chips(options, task.bands, held, options.means or means, options.stds or stds)


def _from_options(options: Namespace) -> tuple[Any, Any]:
    from terratorch_simpler.backbones.backbone import load_backbone
    from terratorch_simpler.backbones.build import band_arguments, check_name

    check_name(options.backbone)
    given = options.backbone_args or {}
    bands = band_arguments(options.backbone, options.bands, given)
    arguments = {"pretrained": options.pretrained} | bands | given
    # The tiles are checked first: a mistake there shows before weights are loaded.
    tiles = _chips(options, options.bands, options.dataset_bands, options.means, options.stds)
    return load_backbone(options.backbone, blocks=options.blocks, **arguments), tiles


def _chips(
    options: Namespace,
    bands: list[str],
    dataset_bands: list[str] | None,
    means: list[float] | None,
    stds: list[float] | None,
) -> Any:
    from terratorch_simpler.tiles.geotiff import GeoTiffTiles

    return GeoTiffTiles(
        options.tiles,
        bands,
        dataset_bands,
        options.size,
        options.samples,
        options.seed,
        means=means,
        stds=stds,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
    )


def _render(
    selection: Any,
    backbone: Any,
    folder: Path,
    config: Path | None,
    rewritten: Path | None,
    blocks: str | None,
) -> tuple[dict[Path, str | bytes], PruningPlan]:
    """Every file's content, and the plan with what was measured for them."""
    from terratorch_simpler.profiling.savings import measure_savings
    from terratorch_simpler.report import picture, report_files
    from terratorch_simpler.task.rewrite import simpler_config

    savings = measure_savings(backbone, selection.plan.kept_blocks, selection.example)
    plan = selection.plan.model_copy(update={"savings": savings})
    plan_path = (folder / "plan.json").as_posix()
    pictures = {name: picture(image) for name, image in selection.thumbnails.images.items()}
    files: dict[Path, str | bytes] = {folder / "plan.json": plan.to_json()}
    for name, content in report_files(plan, plan_path, pictures).items():
        files[folder / name] = content
    if config is not None and rewritten is not None:
        files[rewritten] = simpler_config(config.read_text(), plan.spec, plan_path, blocks)
    return files, plan


def show(console: Console, plan: PruningPlan, files: list[str]) -> None:
    """Print the decision, what it saves, what the others would keep, and the files."""
    console.print(f"[bold]{decision_sentence(plan)}[/bold]")
    if plan.savings is not None:
        table = Table("", "full", "pruned", "ratio", box=None, pad_edge=False)
        for row in savings_rows(plan.savings):
            table.add_row(*row)
        console.print(table)
    kept = Table("criterion", "keeps", "blocks", box=None, pad_edge=False)
    kept.add_row(f"{plan.criterion} (decides)", str(plan.depth), describe(plan.kept_blocks))
    for name, count, blocks in others_rows(plan):
        kept.add_row(name, str(count), blocks)
    console.print(kept)
    console.print("Written: " + ", ".join(files), soft_wrap=True)
