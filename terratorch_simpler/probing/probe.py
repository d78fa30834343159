"""probe(): what each depth of a backbone offers on labelled tiles."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from terratorch_simpler.backbones.backbone import Backbone, load_backbone
from terratorch_simpler.criteria import PROBE
from terratorch_simpler.lightning import find_device
from terratorch_simpler.probing.classes import ClassProbe
from terratorch_simpler.probing.dense import DenseProbe
from terratorch_simpler.probing.labels import Kind, Labels
from terratorch_simpler.probing.loop import ProbeLoop, run_loop
from terratorch_simpler.probing.tokens import FeatureReader
from terratorch_simpler.probing.uncertainty import uncertainty
from terratorch_simpler.results.blocks import block_ranges
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.probe import Probe, Scores
from terratorch_simpler.tiles import MIN_TILES
from terratorch_simpler.tiles.geotiff import GeoTiffTiles
from terratorch_simpler.tiles.sources import Source, TileInput, open_source, with_statistics


class ProbeWarning(UserWarning):
    """Something a user should know before trusting a probe."""


@dataclass(frozen=True)
class ProbeSettings:
    """How to probe.

    Attributes:
        samples: Most training tiles to use; None for all.
        seed: Seed of their choice from a datamodule, and of the resamples of validation tiles.
        accelerator: Lightning's ``accelerator``.
        progress: Show a progress bar.
        share: Choose the smallest depth with this share of the best score; None: the smallest
            within one standard error of it.
    """

    samples: int | None = None
    seed: int = 0
    accelerator: str = "auto"
    progress: bool = True
    share: float | None = None

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < MIN_TILES:
            raise ValueError(f"samples must be at least {MIN_TILES}, got {self.samples}")
        find_device(self.accelerator)


def probe(
    backbone: str | nn.Module,
    train: TileInput,
    val: TileInput | None = None,
    *,
    task: Kind = "segmentation",
    num_classes: int | None = None,
    ignore_index: int | None = None,
    plan: PruningPlan | str | Path | None = None,
    samples: int | None = None,
    seed: int = 0,
    accelerator: str = "auto",
    progress: bool = True,
    blocks: str | None = None,
    **arguments: Any,
) -> Probe:
    """Measure how much of a labelled task each depth of a frozen backbone gives away.

    One pass over the training tiles and one over the validation tiles give the features of all
    layers. A closed-form ridge for each layer, on the patch tokens for dense tasks and on their
    mean for classes of tiles, gives its score.

    Args:
        backbone: A name of TerraTorch's backbone registry, or a backbone.
        train: Training tiles: a ``DataLoader`` or any iterable of batches, dicts with ``image`` and
            ``mask`` or ``label``, normalised already unless it says
            ``bands``, ``means`` and ``stds``; or a ``LightningDataModule``, normalised as
            it does itself.
        val: Tiles to validate on, likewise; by default those of the datamodule.
        task: ``segmentation``, ``regression`` (both by pixel), ``classification`` or
            ``multilabel``.
        num_classes: Number of classes; segmentation needs it.
        ignore_index: Label of pixels or tiles that count for nothing.
        plan: A plan for this backbone, or its file, to compare with.
        samples: Most training tiles to use; None for all.
        seed: Seed of their choice from a datamodule, and of the resamples of validation tiles.
        accelerator: Lightning's ``accelerator``; one device is used, in 32 bits.
        progress: Show a progress bar.
        blocks: Dotted name of the backbone's list of blocks, where no rule finds the one that is
            meant.
        **arguments: Arguments of the registry's builder, such as ``pretrained=True``.

    Returns:
        The score of every depth, and how sure the differences between them are.

    Raises:
        ValueError: If the backbone cannot be cut, tiles or labels do not fit it or the task, there
            is nothing to learn or to validate on, or the plan is another backbone's.
        FileNotFoundError: If a checkpoint or the plan does not exist.

    Example:
        >>> import torch
        >>> images, classes = torch.randn(8, 6, 32, 32), torch.arange(8) % 2
        >>> tiles = [{"image": images + classes[:, None, None, None], "label": classes}]
        >>> kind = {"task": "classification", "num_classes": 2}
        >>> found = probe("prithvi_eo_tiny", tiles, tiles, progress=False, **kind)
        >>> 1 <= found.reaches(0.94) <= found.best <= found.depth
        True
    """
    labels = Labels(task, num_classes, ignore_index)
    settings = ProbeSettings(samples, seed, accelerator, progress)
    if plan is not None and not isinstance(plan, PruningPlan):
        plan = PruningPlan.load(plan)
    found = load_backbone(backbone, blocks=blocks, **arguments)
    return run_probe(found, train, val, labels, settings, plan)


def run_probe(
    backbone: Backbone,
    train: TileInput,
    val: TileInput | None,
    labels: Labels,
    settings: ProbeSettings,
    plan: PruningPlan | None = None,
) -> Probe:
    """As :func:`probe`, for a backbone that is built."""
    if plan is not None:
        backbone.check_plan(plan)
        if plan.criterion == PROBE:
            raise ValueError(
                f"the plan was chosen by labels (criterion '{PROBE}') and holds their probe: give "
                "one that was chosen without labels"
            )
    train_source, val_source = (
        with_statistics(source, backbone) for source in _open(train, val, settings)
    )
    reader = FeatureReader(backbone, labels.is_dense, settings.seed)
    head = DenseProbe(labels) if labels.is_dense else ClassProbe(labels)
    loop = ProbeLoop(reader, labels, train_source, head, learning=True, samples=settings.samples)
    learned = run_loop(loop, settings.accelerator, settings.progress)
    if learned < MIN_TILES:
        raise ValueError(f"{learned} training tiles, at least {MIN_TILES} are needed")
    head.fit()
    loop = ProbeLoop(reader, labels, val_source, head, learning=False)
    validated = run_loop(loop, settings.accelerator, settings.progress)
    if validated == 0:
        raise ValueError("there are no tiles to validate on: give some as val")
    scores, doubts = head.scores(settings.seed)
    for doubt in doubts:
        warnings.warn(doubt, ProbeWarning, stacklevel=3)
    found = _probe(backbone, labels, scores, learned, validated)
    if scores.resamples is not None:
        sure = uncertainty(scores.resamples, found.best, settings.share)
        found = replace(
            found, errors=sure.errors, depth_shares=sure.shares, depth_interval=sure.interval
        )
    found = replace(found, asked_share=settings.share)
    return found if plan is None else beside(found, plan)


def beside(found: Probe, plan: PruningPlan) -> Probe:
    """A probe with the depth that a plan chose, if it keeps the first blocks as the probe does."""
    if isinstance(plan.spec, int):
        return replace(found, chosen=plan.depth)
    warnings.warn(
        f"the plan keeps blocks {block_ranges(plan.kept_blocks)}, and the probe measures the first "
        "blocks: it says nothing of them",
        ProbeWarning,
        stacklevel=4,
    )
    return found


def _open(
    train: TileInput, val: TileInput | None, settings: ProbeSettings
) -> tuple[Source, Source]:
    """Where the tiles of both passes come from.

    Raises:
        ValueError: If either cannot give labelled tiles.
    """
    if val is None and isinstance(train, LightningDataModule):
        val = train
    if val is None:
        raise ValueError("there are no tiles to validate on: give val, with labels")
    for what, tiles in (("train", train), ("val", val)):
        if isinstance(tiles, GeoTiffTiles):
            raise ValueError(
                f"{what} is GeoTiffTiles, which hold no labels: give a DataLoader, or the "
                "datamodule of a task"
            )
        known = isinstance(tiles, LightningDataModule) or hasattr(tiles, "__iter__")
        if not known or isinstance(tiles, str | Tensor | Mapping):
            raise ValueError(
                f"{what} must be a DataLoader, an iterable of batches or a LightningDataModule, "
                f"got {type(tiles).__name__}"
            )
    return (
        open_source(train, settings.samples, settings.seed),
        open_source(val, None, settings.seed, "validation"),
    )


def _probe(backbone: Backbone, labels: Labels, scores: Scores, train: int, val: int) -> Probe:
    def by_layer(values: list[float]) -> dict[int, float]:
        return dict(enumerate(values))

    return Probe(
        backbone=backbone.label,
        task=labels.kind,
        metric=scores.metric,
        scores=by_layer(scores.values),
        others={name: by_layer(values) for name, values in scores.others.items()},
        penalties=by_layer(scores.penalties),
        train_tiles=train,
        val_tiles=val,
        reference="best",
    )
