"""select_task(): a task's config in; plan, report, figures and a ready config out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from terratorch_simpler.bands import band_names
from terratorch_simpler.criteria import PROBE
from terratorch_simpler.messages import Reporter
from terratorch_simpler.selection.settings import (
    Settings,
    settings_from,
    split_options,
    takes_settings,
)
from terratorch_simpler.task.chips import Chips, Files
from terratorch_simpler.task.config import TaskConfig
from terratorch_simpler.task.run import Built, SelectionRun, TaskSelection


@takes_settings
def select_task(
    config: str | Path,
    output: str | Path | None = None,
    settings: Settings | None = None,
    *,
    tiles: Files | None = None,
    blocks: str | None = None,
    probe: bool = False,
    convert: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    **options: Any,
) -> TaskSelection:
    """Choose how many blocks of a task's backbone to keep, and write all there is to it.

    What ``terratorch-simpler select --config`` does: ``plan.json``, ``report.html``,
    ``similarity.png``, ``scores.png`` and ``NAME_simpler.yaml``, all of them or none.

    Args:
        config: A working TerraTorch config: NAME.yaml.
        output: Folder for the results; by default NAME_simpler.
        settings: How to select: :class:`~terratorch_simpler.selection.settings.Settings`.
        tiles: GeoTIFF files in the place of the config's training images: a folder, a file, a
            glob, a ``.txt`` list, or a list of paths.
        blocks: Dotted name of the backbone's list of blocks, where no rule finds the one that is
            meant.
        probe: Then probe every depth with the labels of the config.
        convert: Write NAME_full.yaml as well: a config of PrithviModelFactory with the full
            backbone, as one of EncoderDecoderFactory.
        overwrite: Replace results that are there.
        reporter: Is told how it goes, a :class:`~terratorch_simpler.messages.Reporter`; by default
            nobody is.
        **options: Any field of the settings by its name, which goes before ``settings``; with
            ``tiles`` also any of :class:`~terratorch_simpler.task.chips.Chips`, such as
            ``size=128``.

    Returns:
        The plan, and where everything lies.

    Raises:
        ValueError: If the config, the tiles, the backbone or an option is wrong.
        FileExistsError: If there are results already and ``overwrite`` is False.
        OSError: If a file is missing or cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> config = "configs/sample/segmentation.yaml"
        >>> with TemporaryDirectory() as folder:
        ...     chosen = select_task(config, folder, samples=8, progress=False)
        >>> chosen.plan.total_depth, chosen.config.name
        (12, 'segmentation_simpler.yaml')
    """
    reporter = reporter or Reporter()
    settings, others = settings_from(settings, options)
    chips, unknown = split_options(Chips, others)
    _check_options(settings, chips, unknown, tiles, probe, reporter)
    read = TaskConfig.read(config)
    if convert and read.full is None:
        raise ValueError(
            f"{read.path} is not one of PrithviModelFactory, and needs no conversion: leave out "
            f"{reporter.option('convert')}"
        )
    run = SelectionRun(
        read.path.stem, output, settings, blocks, overwrite, reporter, read, probe, convert
    )
    run.check_free()
    if tiles is not None:
        _check_tiles(read, tiles, Chips(**chips), settings)

    def build() -> Built:
        labelled = probe or settings.criterion == PROBE
        return _build_task(read, tiles, Chips(**chips), settings, blocks, labelled, reporter)

    return run(build)


def select_backbone(
    name: str,
    output: str | Path | None,
    settings: Settings,
    *,
    tiles: Files,
    bands: Sequence[str],
    chips: Chips,
    pretrained: bool,
    arguments: Mapping[str, Any],
    blocks: str | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> TaskSelection:
    """As :func:`select_task`, for a backbone without a task.

    Args:
        name: Name of TerraTorch's backbone registry.
        output: As there.
        settings: As there.
        tiles: As there.
        bands: Bands that the backbone reads, in order.
        chips: How the tiles are read.
        pretrained: Load its pre-trained weights.
        arguments: Other arguments of the registry's builder, which go before these.
        blocks: As there.
        overwrite: As there.
        reporter: As there.

    Raises:
        ValueError: As there.
        OSError: As there.
    """
    run = SelectionRun(name, output, settings, blocks, overwrite, reporter or Reporter())
    # A mistake shows before TerraTorch is loaded, which takes longer, and torch.
    run.check_free()
    source = chips.of(tiles, bands, settings)

    def build() -> Built:
        from terratorch_simpler.backbones.backbone import load_backbone
        from terratorch_simpler.backbones.build import band_arguments, check_name

        check_name(name)
        named = band_arguments(name, list(bands), arguments)
        wanted = {"pretrained": pretrained, **named, **arguments}
        return load_backbone(name, blocks=blocks, **wanted), source, None

    return run(build)


def _check_options(
    settings: Settings,
    chips: Mapping[str, Any],
    unknown: Mapping[str, Any],
    tiles: Files | None,
    probe: bool,
    reporter: Reporter,
) -> None:
    """Refuse options that do not exist or do not go together, before anything is loaded."""
    if unknown:
        known = {field.name for kind in (Settings, Chips) for field in fields(kind)}
        known |= {"blocks", "convert", "overwrite", "probe", "tiles"}
        raise ValueError(
            f"select_task takes no {', '.join(sorted(unknown))}: its options are "
            f"{', '.join(sorted(known))}"
        )
    if chips and tiles is None:
        raise ValueError(
            f"{', '.join(sorted(chips))} say how tiles are read: name them with tiles, or leave "
            "this to the config"
        )
    decides = settings.criterion == PROBE
    if (probe or decides) and (settings.devices, settings.num_nodes) != (1, 1):
        devices, nodes = reporter.option("devices"), reporter.option("num_nodes")
        what = reporter.option("criterion", PROBE) if decides else reporter.option("probe")
        raise ValueError(f"{what} runs on one device: leave out {devices} and {nodes}")


def _check_tiles(config: TaskConfig, files: Files, chips: Chips, settings: Settings) -> None:
    """Open the tiles where the config's text says how, before TerraTorch is loaded.

    A datamodule can know more than its arguments say: then they need only be there.
    """
    bands = band_names(config.model_args.get("backbone_bands"))
    held = chips.dataset_bands or band_names(config.data_args.get("dataset_bands"))
    if bands is not None and (held is not None or "data" not in config.values):
        replace(chips, dataset_bands=held).of(files, bands, settings)
    elif isinstance(files, str | Path):
        from terratorch_simpler.tiles.find import find_rasters

        find_rasters(files)


def _build_task(
    config: TaskConfig,
    files: Files | None,
    chips: Chips,
    settings: Settings,
    blocks: str | None,
    probe: bool,
    reporter: Reporter,
) -> Built:
    """The backbone of a config; its tiles are those of its datamodule, or the files."""
    from terratorch_simpler.task.build import read_task
    from terratorch_simpler.task.probe import check_task

    task = read_task(config, blocks)
    if probe:
        # Better before the selection than after it.
        check_task(task)
    option = reporter.option("tiles")
    if files is None:
        if task.datamodule is None:
            raise ValueError(f"{config.path} has no data: add it, or give tiles with {option}")
        return task.backbone, task.datamodule, task
    if task.bands is None:
        raise ValueError(f"{config.path} names no backbone_bands: add them to use {option}")
    means, stds = task.normalisation() or (None, None)
    chips = replace(
        chips,
        dataset_bands=chips.dataset_bands or task.dataset_bands,
        means=chips.means or means,
        stds=chips.stds or stds,
    )
    return task.backbone, chips.of(files, task.bands, settings), task
