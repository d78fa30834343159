"""select(): runs a backbone over tiles with Lightning and makes the plan."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from terratorch_simpler.backbones import Backbone, count_parameters, load_backbone
from terratorch_simpler.bands import band_names
from terratorch_simpler.criteria import CRITERIA
from terratorch_simpler.decision import Decision, Evidence, check_criterion, decide
from terratorch_simpler.inputs import InputStatistics, check_images, modalities_of
from terratorch_simpler.plan import BackboneRecord, PruningPlan, TilesRecord
from terratorch_simpler.pruning import prune_module
from terratorch_simpler.quiet import quiet_lightning
from terratorch_simpler.sampling import TILES_PER_GROUP, GroupStream, LayerSampler, Pooling
from terratorch_simpler.similarity import LayerAngles, LayerSimilarity
from terratorch_simpler.sources import Batch, Source, by_frame, open_source, unpack
from terratorch_simpler.thumbnails import Thumbnails
from terratorch_simpler.tiles import MIN_TILES, GeoTiffTiles
from terratorch_simpler.wording import doubts

DEFAULT_SAMPLES = 512


class SelectionWarning(UserWarning):
    """Something a user should know before trusting a plan."""


@dataclass(frozen=True)
class Settings:
    """How to select.

    Attributes:
        criterion: A criterion, or a baseline together with ``depth``.
        depth: How many blocks a baseline keeps.
        pooling: ``tokens`` or ``mean``.
        tokens: Patch tokens drawn of each tile.
        samples: Most tiles to use; None for what the tiles say, or 512.
        seed: Seed of the choice of tiles and tokens; None for what the tiles say, or 0.
        accelerator: Lightning's ``accelerator``.
        precision: Lightning's ``precision``.
        progress: Show a progress bar.
    """

    criterion: str = "simpler"
    depth: int | None = None
    pooling: Pooling = "tokens"
    tokens: int = 16
    samples: int | None = None
    seed: int | None = None
    accelerator: str = "auto"
    precision: str = "32-true"
    progress: bool = True

    def __post_init__(self) -> None:
        check_criterion(self.criterion, self.depth)
        if self.pooling not in TILES_PER_GROUP:
            raise ValueError(f"pooling must be tokens or mean, got {self.pooling!r}")
        if self.tokens < 1:
            raise ValueError(f"tokens must be at least 1, got {self.tokens}")
        if self.samples is not None and self.samples < MIN_TILES:
            raise ValueError(f"samples must be at least {MIN_TILES}, got {self.samples}")


@dataclass(frozen=True)
class Selection:
    """A plan, and what the report shows beside it.

    Attributes:
        plan: The plan.
        thumbnails: Some of the tiles as RGB, uint8 [H, W, 3], by name.
        example: One tile as the backbone saw it, for measuring time: its image [1, bands, ...], or
            one by modality, and its other inputs.
    """

    plan: PruningPlan
    thumbnails: dict[str, np.ndarray[Any, Any]]
    example: tuple[Any, dict[str, Any]]


def select(
    backbone: str | nn.Module,
    tiles: Any,
    *,
    criterion: str = "simpler",
    depth: int | None = None,
    pooling: Pooling = "tokens",
    tokens: int = 16,
    samples: int | None = None,
    seed: int | None = None,
    accelerator: str = "auto",
    precision: str = "32-true",
    progress: bool = True,
    blocks: str | None = None,
    **arguments: Any,
) -> PruningPlan:
    """Choose how many blocks of a pre-trained backbone to keep, from unlabelled tiles.

    Args:
        backbone: A name of TerraTorch's backbone registry, or a backbone.
        tiles: ``GeoTiffTiles``, a ``DataLoader``, a ``LightningDataModule`` (its training images),
            or any iterable of batches: a tensor [B, C, H, W], a dict with ``image``, or a dict of
            modalities. Only ``GeoTiffTiles`` and datamodules are normalised here.
        criterion: What decides: one of :data:`~terratorch_simpler.criteria.CRITERIA`, or a baseline
            of :data:`~terratorch_simpler.criteria.BASELINES` together with ``depth``.
        depth: How many blocks a baseline keeps.
        pooling: ``tokens`` (samples are patch tokens) or ``mean`` (one sample a tile).
        tokens: Patch tokens drawn of each tile.
        samples: Most tiles to use; by default what the tiles say, or 512.
        seed: Seed of the choice of tiles and tokens; by default what the tiles say, or 0.
        accelerator: Lightning's ``accelerator``.
        precision: Lightning's ``precision``.
        progress: Show a progress bar.
        blocks: Dotted name of the backbone's list of blocks, where no rule finds the one that is
            meant.
        **arguments: Arguments of the registry's builder, such as ``pretrained=True``.

    Returns:
        The plan.

    Raises:
        ValueError: If the backbone cannot be cut, the tiles do not fit it, there are fewer than 4,
            or an argument is wrong.
        FileNotFoundError: If a checkpoint does not exist.

    Example:
        >>> tiles = GeoTiffTiles("tiles/", bands=["BLUE", "GREEN", "RED"])  # doctest: +SKIP
        >>> plan = select("prithvi_eo_v2_300", tiles, pretrained=True)  # doctest: +SKIP
    """
    settings = Settings(
        criterion, depth, pooling, tokens, samples, seed, accelerator, precision, progress
    )
    return run_selection(load_backbone(backbone, blocks=blocks, **arguments), tiles, settings).plan


def run_selection(backbone: Backbone, tiles: Any, settings: Settings) -> Selection:
    """As :func:`select`, for a backbone that is built, with what the report needs."""
    chips = tiles if isinstance(tiles, GeoTiffTiles) else None
    seed = settings.seed if settings.seed is not None else (chips.seed if chips else 0)
    samples = settings.samples or (chips.samples if chips else DEFAULT_SAMPLES)
    source = with_statistics(open_source(tiles, samples, seed), backbone)
    if settings.criterion in CRITERIA:
        CRITERIA[settings.criterion].check_depth(backbone.depth)
    loop = _Loop(backbone, source, settings, seed, samples)
    _run(loop, source, settings)
    evidence = loop.evidence()
    decision = decide(evidence, settings.criterion, settings.depth, seed)
    plan = _make_plan(backbone, source, settings, decision, loop, seed)
    warned = [statistics.warning() for statistics in loop.statistics.values()]
    for message in [*warned, *doubts(plan)]:
        if message is not None:
            warnings.warn(message, SelectionWarning, stacklevel=3)
    assert loop.example is not None
    return Selection(plan, loop.thumbnails.images, loop.example)


def calibrate(backbone: Backbone, calibration: dict[str, Any]) -> PruningPlan:
    """Select as the ``backbone_calibration`` of a config says.

    Args:
        backbone: The full backbone.
        calibration: ``tiles``, and any argument of :class:`GeoTiffTiles` or :func:`select`. The
            bands are those of the backbone unless they are named.

    Raises:
        ValueError: If ``tiles`` is missing or a key is unknown, or as :func:`select`.
    """
    from dataclasses import fields
    from inspect import signature

    known = {*signature(GeoTiffTiles).parameters, *(field.name for field in fields(Settings))}
    unknown = sorted(calibration.keys() - known)
    if unknown or "tiles" not in calibration:
        raise ValueError(
            f"calibration {'does not know ' + ', '.join(unknown) if unknown else 'lacks tiles'}: "
            f"it takes {', '.join(sorted(known))}"
        )
    for_tiles = signature(GeoTiffTiles).parameters.keys()
    arguments = {key: value for key, value in calibration.items() if key in for_tiles}
    arguments["bands"] = band_names(calibration.get("bands")) or backbone.bands
    if not arguments["bands"]:
        raise ValueError("calibration needs bands: name them there or as backbone_bands")
    settings = {key: value for key, value in calibration.items() if key not in for_tiles}
    return run_selection(backbone, GeoTiffTiles(**arguments), Settings(**settings)).plan


def with_statistics(source: Source, backbone: Backbone) -> Source:
    """Give chips that are not normalised yet the statistics of the pre-trained weights.

    Raises:
        ValueError: If the backbone publishes none.
    """
    from dataclasses import replace

    if source.chips is None or (source.means is not None and source.stds is not None):
        return source
    if source.means is not None or source.stds is not None:
        raise ValueError("give means and stds together, or neither")
    assert source.bands is not None
    statistics = backbone.statistics(source.bands)
    if statistics is None:
        raise ValueError(
            f"{backbone.label} publishes no statistics to normalise with: give means and stds, one "
            "value a band"
        )
    return replace(source, means=statistics[0], stds=statistics[1])


class _Loop(LightningModule):
    """One pass: normalise, run the blocks, add groups of samples to the metrics."""

    def __init__(
        self, backbone: Backbone, source: Source, settings: Settings, seed: int, samples: int
    ) -> None:
        super().__init__()
        self.backbone, self.module, self.source = backbone, backbone.module, source
        self.similarity = LayerSimilarity(backbone.depth + 1)
        self.angles = LayerAngles(backbone.depth + 1)
        self.sampler = LayerSampler(backbone, settings.pooling, settings.tokens, seed)
        self.groups = GroupStream(TILES_PER_GROUP[settings.pooling])
        self.statistics: dict[str, InputStatistics] = {}
        self.thumbnails = Thumbnails(source.bands)
        self.names: list[str] = []
        self.samples = samples
        self.example: tuple[Any, dict[str, Any]] | None = None
        self.width = 0
        self.means: Tensor | None
        for name, values in (("means", source.means), ("stds", source.stds)):
            value = None if values is None else torch.tensor(values)[None, :, None, None]
            self.register_buffer(name, value, persistent=False)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch of tiles."""
        del batch_idx
        tiles = unpack(batch, self.backbone.family.inputs)
        if self.backbone.by_frame:
            tiles = by_frame(tiles)
        images = modalities_of(tiles.image)
        found = len(next(iter(images.values()))) if images else 0
        count = min(found, self.samples - len(self.names))
        if count <= 0 and images:
            self.trainer.should_stop = True
            return
        check_images(tiles.image, self.backbone, tiles.inputs)
        image, inputs = apply_to_collection(
            (tiles.image, tiles.inputs), Tensor, lambda value: value[:count].to(self.device)
        )
        if self.means is not None:
            image = (image - self.means) / self.stds
        self._look(image, tiles.names)
        if self.example is None:
            self.example = apply_to_collection((image, inputs), Tensor, lambda one: one[:1].cpu())
        samples = self.sampler(image, first_tile=len(self.names), **inputs)
        self.width = samples.shape[-1]
        names = tiles.names or [f"tile {len(self.names) + i}" for i in range(count)]
        self.names += names[:count]
        for group in self.groups.add(samples):
            self._update(group)

    def _look(self, image: Any, names: list[str] | None) -> None:
        """Keep what the report shows of the tiles, and what warns of wrong units."""
        for modality, images in modalities_of(image).items():
            statistics = self.statistics.setdefault(
                modality, InputStatistics(self.source.means, self.source.stds, modality)
            )
            statistics.update(images)
        self.thumbnails.update(next(iter(modalities_of(image).values())), names)

    def _update(self, group: Tensor) -> None:
        layers = list(group.unbind())
        self.similarity.update(layers)
        self.angles.update(layers)

    def evidence(self) -> Evidence:
        """What the pass found.

        Raises:
            ValueError: If there were fewer than 4 tiles.
        """
        if len(self.names) < MIN_TILES:
            raise ValueError(f"{len(self.names)} tiles, at least {MIN_TILES} are needed")
        for group in self.groups.finish():
            self._update(group)
        cosine, angle = self.angles.compute()
        terms = self.similarity.group_terms()
        if not torch.isfinite(terms).all():
            raise ValueError(
                f"{self.backbone.label} gives NaN or infinity on these tiles: check its weights, "
                "or run in a higher precision"
            )
        return Evidence(terms.cpu().numpy(), cosine.cpu().numpy(), angle.cpu().numpy())


def _run(loop: _Loop, source: Source, settings: Settings) -> None:
    """Run the pass in a Lightning trainer of its own."""
    with quiet_lightning(), loop.sampler:
        trainer = Trainer(
            accelerator=settings.accelerator,
            devices=1,
            precision=settings.precision,  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=settings.progress,
        )
        trainer.validate(loop, verbose=False, **source.loop)


def _make_plan(
    backbone: Backbone,
    source: Source,
    settings: Settings,
    decision: Decision,
    loop: _Loop,
    seed: int,
) -> PruningPlan:
    pruned = prune_module(backbone.module, decision.kept_blocks, family=backbone.family)
    assert isinstance(backbone.family.blocks, str)
    return PruningPlan(
        depth=len(decision.kept_blocks),
        total_depth=backbone.depth,
        kept_blocks=decision.kept_blocks,
        criterion=settings.criterion,
        pooling=settings.pooling,
        tokens=settings.tokens if settings.pooling == "tokens" else 1,
        confidence=decision.confidence,
        depth_shares=decision.depth_shares,
        stabilizes=decision.stabilizes,
        scores=decision.scores,
        others=decision.others,
        similarity=decision.similarity.tolist(),
        backbone=BackboneRecord(
            name=backbone.label,
            arguments=plain(backbone.arguments),
            family=backbone.family.name,
            blocks=backbone.family.blocks,
            depth=backbone.depth,
            width=loop.width,
            parameters=backbone.parameters,
            kept_parameters=count_parameters(pruned),
            pretrained=backbone.pretrained,
            fingerprint=backbone.fingerprint(),
        ),
        tiles=TilesRecord(
            source=source.label,
            names=loop.names,
            used=len(loop.names),
            dropped=sum(source.chips.dropped.values()) if source.chips else 0,
            seed=seed,
            tiles_per_group=TILES_PER_GROUP[settings.pooling],
        ),
        versions={
            name: version(name)
            for name in ("terratorch-simpler", "terratorch", "torchgeo", "torch", "lightning")
        },
    )


def plain(value: Any) -> Any:
    """Arguments of a builder as JSON can hold them."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    inner = getattr(value, "value", value)
    return inner if inner is None or isinstance(inner, str | int | float | bool) else str(inner)
