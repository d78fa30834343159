"""select(): runs a backbone over tiles with Lightning and makes the plan."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from terratorch_simpler.backbones.backbone import Backbone, count_parameters, load_backbone
from terratorch_simpler.backbones.pruned import PrunedBackbone
from terratorch_simpler.bands import band_names
from terratorch_simpler.criteria import CRITERIA, PROBE
from terratorch_simpler.pruning import prune_backbone
from terratorch_simpler.results.plan import BackboneRecord, PruningPlan
from terratorch_simpler.results.probe import Probe
from terratorch_simpler.results.wording import doubts
from terratorch_simpler.selection.decision import Decision, Evidence, decide
from terratorch_simpler.selection.groups import TILES_PER_GROUP
from terratorch_simpler.selection.loop import SelectionLoop, run_loop
from terratorch_simpler.selection.settings import Settings, settings_from, takes_settings
from terratorch_simpler.selection.thumbnails import Thumbnails
from terratorch_simpler.tiles.geotiff import GeoTiffTiles
from terratorch_simpler.tiles.sources import (
    Source,
    TileInput,
    open_source,
    samples_and_seed,
    with_statistics,
)


class SelectionWarning(UserWarning):
    """Something a user should know before trusting a plan."""


@dataclass(frozen=True)
class Selection:
    """A plan, and what the report shows beside it.

    Attributes:
        plan: The plan.
        pruned: The backbone with the blocks that the plan keeps, which shares their weights.
        thumbnails: Some of the tiles as RGB.
        example: One tile as the backbone saw it, for measuring time: its image [1, bands, ...], or
            one by modality, and its other inputs.
    """

    plan: PruningPlan
    pruned: PrunedBackbone
    thumbnails: Thumbnails
    example: tuple[Any, dict[str, Any]]


@takes_settings
def select(
    backbone: str | nn.Module,
    tiles: TileInput,
    *,
    blocks: str | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> PruningPlan:
    """Choose how many blocks of a pre-trained backbone to keep, from unlabelled tiles.

    Args:
        backbone: A name of TerraTorch's backbone registry, or a backbone.
        tiles: ``GeoTiffTiles``, a ``DataLoader``, a ``LightningDataModule`` (its training images),
            or any iterable of batches: a tensor [B, C, H, W], a dict with ``image``, or a dict of
            modalities. Only ``GeoTiffTiles``, datamodules and iterables that say ``bands``,
            ``means`` and ``stds`` (:class:`~terratorch_simpler.tiles.sources.TileSource`) are
            normalised here.
        blocks: Dotted name of the backbone's list of blocks, where no rule finds the one that is
            meant.
        settings: How to select: :class:`~terratorch_simpler.selection.settings.Settings`, which
            says what each of its fields does.
        **options: Any field of the settings by its name, such as ``criterion="knee"``, which goes
            before ``settings``; and arguments of the registry's builder, such as
            ``pretrained=True``.

    Returns:
        The plan.

    Raises:
        ValueError: If the backbone cannot be cut, the tiles do not fit it, there are fewer than 4,
            or an argument is wrong.
        FileNotFoundError: If a checkpoint does not exist.

    Example:
        >>> from terratorch_simpler import GeoTiffTiles
        >>> sample = "terratorch_simpler/samples"
        >>> bands = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
        >>> tiles = GeoTiffTiles(f"{sample}/train/images", bands, size=64, samples=16)
        >>> weights = {"pretrained": True, "ckpt_path": f"{sample}/prithvi_eo_v2_tiny_tl.pt"}
        >>> plan = select("prithvi_eo_v2_tiny_tl", tiles, progress=False, **weights)
        >>> plan.kept_blocks == list(range(plan.depth)), plan.total_depth
        (True, 12)
    """
    settings, arguments = settings_from(settings, options)
    _check_labels(settings, None)
    return run_selection(load_backbone(backbone, blocks=blocks, **arguments), tiles, settings).plan


def run_selection(
    backbone: Backbone,
    tiles: TileInput,
    settings: Settings,
    probing: Callable[[], Probe] | None = None,
) -> Selection:
    """As :func:`select`, for a backbone that is built, with what the report needs.

    Args:
        backbone: The full backbone.
        tiles: As there.
        settings: As there.
        probing: Measures what labels say of every depth, where they decide.

    Raises:
        ValueError: As there, or if labels are to decide and there is nothing that reads them.
    """
    _check_labels(settings, probing)
    samples, seed = samples_and_seed(tiles, settings.samples, settings.seed)
    source = with_statistics(open_source(tiles, samples, seed), backbone)
    if settings.criterion in CRITERIA:
        CRITERIA[settings.criterion].check_depth(backbone.depth)
    loop = SelectionLoop(backbone, source, settings, seed, samples)
    run_loop(loop)
    labelled = probing() if probing is not None else None
    decision = decide(loop.evidence, settings.criterion, settings.depth, seed, labelled)
    pruned = prune_backbone(backbone, decision.kept_blocks)
    plan = _make_plan(backbone, pruned, source, settings, decision, loop, seed, labelled)
    warned = [statistics.warning() for statistics in loop.inputs.values()]
    said = [message for message in [*warned, *doubts(plan)] if message is not None]
    plan = plan.model_copy(update={"warnings": said})
    for message in said:
        warnings.warn(message, SelectionWarning, stacklevel=3)
    assert loop.example is not None
    return Selection(plan, pruned, loop.thumbnails, loop.example)


def _check_labels(settings: Settings, probing: Callable[[], Probe] | None) -> None:
    """Refuse labels as what decides where nothing reads them."""
    if settings.criterion == PROBE and probing is None:
        raise ValueError(
            f"criterion '{PROBE}' needs the labels of a task's config: use 'terratorch-simpler "
            f"select --config TASK.yaml --criterion {PROBE}', or select_task in Python, and name "
            "its plan here"
        )


def calibrate(backbone: Backbone, calibration: dict[str, Any]) -> PruningPlan:
    """Select as the ``backbone_calibration`` of a config says.

    Args:
        backbone: The full backbone.
        calibration: ``tiles``, and any argument of :class:`GeoTiffTiles` or :func:`select`. The
            bands are those of the backbone unless they are named.

    Raises:
        ValueError: If ``tiles`` is missing or a key is unknown, or as :func:`select`.
    """
    for_tiles = signature(GeoTiffTiles).parameters.keys()
    chips = {key: value for key, value in calibration.items() if key in for_tiles}
    others = {key: value for key, value in calibration.items() if key not in for_tiles}
    # One process selects, whatever the training runs on, and without labels.
    known = {field.name for field in fields(Settings)} - {"devices", "num_nodes", "share"}
    unknown = sorted(others.keys() - known)
    if unknown or "tiles" not in calibration:
        raise ValueError(
            f"calibration {'does not know ' + ', '.join(unknown) if unknown else 'lacks tiles'}: "
            f"it takes {', '.join(sorted({*for_tiles, *known, 'timeout'}))}"
        )
    chips["bands"] = band_names(calibration.get("bands")) or backbone.bands
    if not chips["bands"]:
        raise ValueError("calibration needs bands: name them there or as backbone_bands")
    return run_selection(backbone, GeoTiffTiles(**chips), Settings(**others)).plan


def _make_plan(
    backbone: Backbone,
    pruned: PrunedBackbone,
    source: Source,
    settings: Settings,
    decision: Decision,
    loop: SelectionLoop,
    seed: int,
    labelled: Probe | None,
) -> PruningPlan:
    return PruningPlan(
        depth=len(decision.kept_blocks),
        total_depth=backbone.depth,
        kept_blocks=decision.kept_blocks,
        criterion=settings.criterion,
        pooling=settings.pooling,
        tokens=settings.tokens if settings.pooling == "tokens" else 1,
        confidence=decision.confidence,
        depth_shares=decision.certainty.shares,
        depth_interval=decision.certainty.interval,
        tiles_to_settle=_tiles_to_settle(decision, len(loop.names)),
        output_scale=_output_scale(backbone, loop.evidence, decision.kept_blocks),
        stabilizes=decision.stabilizes,
        scores=decision.scores,
        others=decision.others,
        similarity=decision.similarity.tolist(),
        statistics=decision.statistics,
        unread=decision.unread or None,
        probe=labelled,
        backbone=BackboneRecord(
            name=backbone.label,
            arguments=plain(backbone.arguments),
            family=backbone.family.name,
            blocks=backbone.blocks,
            depth=backbone.depth,
            width=loop.width,
            parameters=backbone.parameters,
            kept_parameters=count_parameters(pruned),
            pretrained=backbone.pretrained,
            fingerprint=backbone.fingerprint(),
        ),
        tiles=source.record(
            loop.names,
            seed=seed,
            tiles_per_group=TILES_PER_GROUP[settings.pooling],
            stopped_early=loop.stopped_early,
        ),
        versions={
            name: version(name)
            for name in ("terratorch-simpler", "terratorch", "torchgeo", "torch", "lightning")
        },
    )


def _tiles_to_settle(decision: Decision, used: int) -> int | None:
    times = decision.certainty.times_more
    return None if times is None else round(times * used)


def _output_scale(backbone: Backbone, evidence: Evidence, kept: list[int]) -> float | None:
    # Behind a gap, what the last block gives was not measured.
    first = kept == list(range(len(kept)))
    if not first or not backbone.family.raw_outputs(backbone.module):
        return None
    # HSIC of a layer with itself is the squared norm of its covariance: a fourth power.
    spreads = np.diagonal(evidence.terms.sum(axis=0)).clip(min=0) ** 0.25
    full, last = spreads[-1], spreads[len(kept)]
    return float(last / full) if full > 0 and last > 0 else None


def plain(value: object) -> Any:
    """Arguments of a builder as JSON can hold them."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    inner = getattr(value, "value", value)
    return inner if inner is None or isinstance(inner, str | int | float | bool) else str(inner)
