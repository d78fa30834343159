"""The pass of a selection: samples of every layer, in groups, to the metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from einops import rearrange
from lightning_utilities.core.apply_func import apply_to_collection
from numpy.typing import NDArray
from torch import Tensor

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.criteria import CRITERIA, SIMILARITY
from terratorch_simpler.layers.sampler import PARTNERS, LayerSampler, without_partners
from terratorch_simpler.layers.statistics import LayerStatistics
from terratorch_simpler.lightning import run_pass
from terratorch_simpler.selection.certainty import is_settled, may_stop_at
from terratorch_simpler.selection.decision import Evidence
from terratorch_simpler.selection.groups import TILES_PER_GROUP, GroupStream
from terratorch_simpler.selection.settings import Settings
from terratorch_simpler.selection.thumbnails import Thumbnails
from terratorch_simpler.similarity import LayerAngles, LayerSimilarity, centered_grams
from terratorch_simpler.tiles import MIN_TILES
from terratorch_simpler.tiles.batches import Tiles, modalities_of
from terratorch_simpler.tiles.progress import TilesBar
from terratorch_simpler.tiles.sources import Source
from terratorch_simpler.tiles.tile_pass import TilePass
from terratorch_simpler.tiles.units import InputStatistics

ANCHORS = 4
"""Tokens of a tile whose neighbours are looked at."""


class SelectionLoop(TilePass):
    """One pass: run the blocks, add groups of samples to the metrics.

    Every process reads the whole stream and runs the groups that are its own, so that the groups,
    and with them the plan, are those of one process.

    Attributes:
        names: Names of the tiles used, in order.
        stopped_early: Whether the choice was settled before all tiles were used.
        evidence: What the pass found, once it is over.
    """

    evidence: Evidence
    groups: GroupStream

    def __init__(
        self, backbone: Backbone, source: Source, settings: Settings, seed: int, samples: int
    ) -> None:
        super().__init__(backbone, source, samples)
        self.settings, self.seed = settings, seed
        self.sampler = LayerSampler(backbone, settings.pooling, settings.tokens, seed, ANCHORS)
        self.size = TILES_PER_GROUP[settings.pooling]
        # In a tuple, so that Lightning does not move them: Apple's GPUs have no float64.
        self.metrics = (
            LayerSimilarity(backbone.depth + 1, distributed_available_fn=self._is_spread),
            LayerAngles(backbone.depth + 1, distributed_available_fn=self._is_spread),
            LayerStatistics(backbone.depth + 1, distributed_available_fn=self._is_spread),
        )
        self.inputs: dict[str, InputStatistics] = {}
        self.thumbnails = Thumbnails(source.bands)
        self.names: list[str] = []
        self.example: tuple[Any, dict[str, Any]] | None = None
        self.width = 0
        self.stopped_early = False
        self._sums: list[tuple[range, Tensor]] = []

    def _is_spread(self) -> bool:
        return self.trainer.world_size > 1

    def on_validation_start(self) -> None:
        """Learn which process this is."""
        self.groups = GroupStream(
            self.size, self.trainer.global_rank, self.trainer.world_size, self.sampler.anchors
        )
        for metric in self.metrics:
            metric.to("cpu" if self.device.type == "mps" else self.device)

    def parts(self, count: int) -> Iterator[tuple[int, int]]:
        """Divides a batch where sampling may stop, so that its size changes nothing."""
        stops = [i for i in range(1, count) if may_stop_at(self.seen + i, self.size)]
        yield from zip([0, *stops], [*stops, count], strict=True)

    def add(self, tiles: Tiles, positions: range) -> None:
        """Run the tiles that are this process's own, and keep what the report shows."""
        names = tiles.names or [f"tile {position}" for position in positions]
        image, inputs = tiles.image, tiles.inputs
        self._inspect(image, positions, names)
        if self.example is None:
            self.example = apply_to_collection((image, inputs), Tensor, lambda one: one[:1].cpu())
        self.names += names
        own = [position for position in positions if self.groups.owns(position)]
        if not own:
            return
        if len(own) < len(positions):
            index = torch.tensor(own, device=self.device) - positions[0]
            image, inputs = apply_to_collection((image, inputs), Tensor, lambda value: value[index])
        samples = self.sampler(image, own, **inputs)
        self.width = samples.shape[-1]
        self._check_criterion()
        _, angles, _ = self.metrics
        angles.update(without_partners(samples, self.sampler.anchors).flatten(1, 2).unbind())
        for number, group in self.groups.add(samples):
            self._add_group(number, group)

    def _check_criterion(self) -> None:
        """Refuse a criterion that cannot be read from these tiles, before all of them are run.

        Raises:
            ValueError: With the reason.
        """
        rule = CRITERIA.get(self.settings.criterion)
        why = self.sampler.no_partners
        if rule is not None and rule.reads == "spatial_contrast" and why is not None:
            raise ValueError(
                f"criterion '{self.settings.criterion}' compares tokens side by side with tokens "
                f"half a tile apart, and {why}: choose another criterion, or larger tiles"
            )

    def _add_group(self, number: int, group: Tensor) -> None:
        """Add the samples of a group [layers, tiles, samples of a tile, width] to the metrics."""
        similarity, _, statistics = self.metrics
        drawn = without_partners(group, self.sampler.anchors)
        grams = centered_grams(drawn.flatten(1, 2).unbind())
        anchors = drawn[:, :, : self.sampler.anchors if self.sampler.no_partners is None else 0]
        partners = rearrange(
            group[:, :, drawn.shape[2] :],
            "layers tiles (anchors partners) width -> layers tiles anchors partners width",
            partners=PARTNERS,
        )
        statistics.update(grams, anchors, partners, number)
        similarity.add_grams(grams, number)

    def _inspect(self, image: object, positions: range, names: list[str]) -> None:
        """Keep what the report shows of the tiles, and what warns of wrong units."""
        for modality, images in modalities_of(image).items():
            statistics = self.inputs.setdefault(
                modality,
                InputStatistics(
                    self.source.means, self.source.stds, modality, self.source.published
                ),
            )
            statistics.update(images, names)
            if self._is_spread():
                self._sums.append((positions, images.flatten(1).sum(1)))
        self.thumbnails.update(next(iter(modalities_of(image).values())), names)

    def has_enough(self) -> bool:
        """Whether the choice is settled, which is noted; every process says the same."""
        settings = self.settings
        if settings.criterion not in CRITERIA or not settings.early_stop:
            return False
        if not may_stop_at(self.seen, self.size):
            return False
        self._check_finite()
        rule = CRITERIA[settings.criterion]
        values = self._terms() if rule.reads == SIMILARITY else self._statistics()[rule.reads]
        self.stopped_early = is_settled(values, settings.criterion, self.seed)
        return self.stopped_early

    def _check_finite(self) -> None:
        for statistics in self.inputs.values():
            statistics.check()

    def _terms(self) -> NDArray[np.float64]:
        """HSIC terms of every group, of all processes."""
        similarity, _, _ = self.metrics
        with similarity.sync_context():
            return similarity.group_terms().cpu().numpy()

    def _statistics(self) -> dict[str, NDArray[np.float64]]:
        """Statistics of every group that has them, of all processes."""
        _, _, statistics = self.metrics
        with statistics.sync_context():
            values = {
                name: of_groups.double().cpu().numpy()
                for name, of_groups in statistics.group_values().items()
            }
        return {name: found[np.isfinite(found).all(axis=1)] for name, found in values.items()}

    def on_validation_epoch_end(self) -> None:
        """Settle the rest of the tiles and merge what the processes found.

        Raises:
            ValueError: If there were fewer than 4 tiles, the backbone gives no finite numbers, or
                the processes were given different tiles.
        """
        if self.seen < MIN_TILES:
            raise ValueError(f"{self.seen} tiles, at least {MIN_TILES} are needed")
        self._check_finite()
        for number, group in self.groups.finish(self.seen, self._broadcast):
            self._add_group(number, group)
        self._check_same_tiles()
        self.width = self.trainer.strategy.broadcast(self.width)
        terms, (cosine, angle) = self._terms(), self.metrics[1].compute()
        if not np.isfinite(terms).all():
            raise self.not_finite()
        statistics = self._statistics()
        why = self.trainer.strategy.broadcast(self.sampler.no_partners)
        self.evidence = Evidence(
            terms,
            cosine.cpu().numpy(),
            angle.cpu().numpy(),
            {name: found for name, found in statistics.items() if len(found)},
            {name: str(why) for name, found in statistics.items() if not len(found)},
        )

    def _broadcast(self, samples: Tensor | None, source: int) -> Tensor | None:
        samples = samples if samples is None else samples.cpu()
        return self.trainer.strategy.broadcast(samples, source)

    def _check_same_tiles(self) -> None:
        if not self._is_spread():
            return
        checksum = torch.stack(
            [
                of_tiles.cpu().double() @ torch.tensor(positions).double().add(1)
                for positions, of_tiles in self._sums
            ]
        ).sum()
        sums = self.all_gather(checksum.to(self.device))
        assert isinstance(sums, Tensor)
        if not torch.allclose(sums, sums[0], rtol=1e-6):
            raise ValueError(
                "the processes were given different tiles: give the loader a fixed order (no "
                "shuffling, or a seeded generator), or select on one device"
            )


def run_loop(loop: SelectionLoop) -> None:
    """Run the pass as its settings say."""
    settings = loop.settings
    with loop.sampler:
        run_pass(
            loop,
            loop.source.loop,
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            precision=settings.precision,
            bar=TilesBar("Selecting") if settings.progress else None,
        )
