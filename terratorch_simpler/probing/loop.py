"""One pass of a backbone over labelled tiles, in a Lightning loop."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.lightning import quiet_lightning
from terratorch_simpler.probing.classes import ClassProbe
from terratorch_simpler.probing.dense import DenseProbe
from terratorch_simpler.probing.labels import Labels
from terratorch_simpler.probing.tokens import FeatureReader
from terratorch_simpler.tiles.checks import check_finite, check_images, modalities_of
from terratorch_simpler.tiles.sources import Batch, Source, Tiles, by_frame, unpack


class ProbeLoop(LightningModule):
    """Gives the frozen features of every layer, and the labels, to what learns from them.

    It is run twice: over the training tiles first, then over those to validate on.

    Args:
        backbone: The full backbone.
        labels: What the labels are.
        samples: Most training tiles to use; None for all.
        seed: Seed of a backbone that draws random numbers when it runs.

    Attributes:
        learning: Whether the tiles of the pass are the training tiles.
        tiles: Number of tiles of the pass so far.
        head: What learns, and judges.
    """

    def __init__(self, backbone: Backbone, labels: Labels, samples: int | None, seed: int) -> None:
        super().__init__()
        self.backbone, self.module, self.labels = backbone, backbone.module, labels
        self.reader = FeatureReader(backbone, labels.is_dense, seed)
        self.head = DenseProbe(labels) if labels.is_dense else ClassProbe(labels)
        self.samples, self.learning, self.tiles = samples, True, 0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch of tiles.

        Raises:
            ValueError: If it does not fit the backbone, or has no labels that fit it.
            StopIteration: After the last tile, which ends Lightning's loop as a loader's end does.
        """
        del batch_idx
        tiles = unpack(batch, self.backbone.family.inputs)
        images = modalities_of(tiles.image).values()
        labels = self.labels.of(batch, len(next(iter(images), ())))
        most = self.samples if self.learning else None
        if most is not None and self.tiles + len(labels) > most:
            left = most - self.tiles
            labels = labels[:left]
            image, inputs = apply_to_collection(
                (tiles.image, tiles.inputs), Tensor, lambda value: value[:left]
            )
            tiles = Tiles(image, inputs, None)
        features = self._features(tiles, len(labels))
        if self.learning:
            self.head.learn(features, labels, self.reader.grid, self.tiles)
        else:
            self.head.judge(features, labels, self.reader.grid)
        self.tiles += len(labels)
        if most is not None and self.tiles >= most:
            raise StopIteration

    def _features(self, tiles: Tiles, count: int) -> Tensor:
        """[layers, tiles, cells, width], the mean over the frames that are run one by one."""
        if self.backbone.by_frame:
            tiles = by_frame(tiles)
        check_images(tiles.image, self.backbone, tiles.inputs)
        image, inputs = apply_to_collection(
            (tiles.image, tiles.inputs), Tensor, lambda value: value.to(self.device)
        )
        check_finite(image)
        run = len(next(iter(modalities_of(image).values())))
        first = self.tiles * run // count
        features = self.reader(image, range(first, first + run), **inputs)
        if not torch.isfinite(features).all():
            raise ValueError(
                f"{self.backbone.label} gives NaN or infinity on these tiles: check its weights"
            )
        return features.reshape(len(features), count, -1, *features.shape[2:]).mean(dim=2)


def run_pass(loop: ProbeLoop, source: Source, accelerator: str, progress: bool) -> int:
    """Run one pass in a Lightning trainer of its own; gives the number of tiles."""
    loop.tiles = 0
    with quiet_lightning(), loop.reader:
        trainer = Trainer(
            accelerator=accelerator,
            devices=1,
            # Rounding to 16 bits would be noise in the features.
            precision="32-true",
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress,
        )
        trainer.validate(loop, verbose=False, **source.loop)
    return loop.tiles
