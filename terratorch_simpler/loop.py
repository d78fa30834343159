"""One pass of a backbone over tiles, in a Lightning loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from terratorch_simpler.backbones import Backbone
from terratorch_simpler.decision import Evidence, check_criterion
from terratorch_simpler.inputs import InputStatistics, check_images, modalities_of
from terratorch_simpler.quiet import quiet_lightning
from terratorch_simpler.sampling import TILES_PER_GROUP, GroupStream, LayerSampler, Pooling
from terratorch_simpler.similarity import LayerAngles, LayerSimilarity
from terratorch_simpler.sources import Batch, Source, by_frame, unpack
from terratorch_simpler.thumbnails import Thumbnails
from terratorch_simpler.tiles import MIN_TILES


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


class SelectionLoop(LightningModule):
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


def run_loop(loop: SelectionLoop, source: Source, settings: Settings) -> None:
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
