"""The passes of a probe: frozen features of every layer, and labels, to what learns from them."""

from __future__ import annotations

from dataclasses import replace

import torch
from einops import reduce

from terratorch_simpler.lightning import run_pass
from terratorch_simpler.probing.classes import ClassProbe
from terratorch_simpler.probing.dense import DenseProbe
from terratorch_simpler.probing.labels import Labels
from terratorch_simpler.probing.tokens import FeatureReader
from terratorch_simpler.tiles.batches import Batch, Tiles, unpack
from terratorch_simpler.tiles.checks import check_finite
from terratorch_simpler.tiles.progress import TilesBar
from terratorch_simpler.tiles.sources import Source
from terratorch_simpler.tiles.tile_pass import TilePass


class ProbeLoop(TilePass):
    """One pass over labelled tiles: to learn from, or to validate on.

    Args:
        reader: Of the backbone's features.
        labels: What the labels are.
        source: Where the tiles come from.
        head: What learns from features and labels, and predicts labels.
        learning: Whether it learns from the tiles of this pass, or predicts them.
        samples: Most tiles to use; None for all.
    """

    def __init__(
        self,
        reader: FeatureReader,
        labels: Labels,
        source: Source,
        head: DenseProbe | ClassProbe,
        *,
        learning: bool,
        samples: int | None = None,
    ) -> None:
        super().__init__(reader.backbone, source, samples)
        self.reader, self.labels, self.head, self.learning = reader, labels, head, learning

    def read(self, batch: Batch) -> Tiles:
        """Take a batch apart, with one label a tile: frames stay together.

        Raises:
            ValueError: If it has no labels that fit.
        """
        tiles = unpack(batch, self.backbone.family.inputs)
        return replace(tiles, labels=self.labels.of(batch, len(tiles)))

    def add(self, tiles: Tiles, positions: range) -> None:
        """Learn from tiles, or predict them: a tile's features are the mean over its frames."""
        labels = tiles.labels
        assert labels is not None
        tiles = self.as_run(tiles)
        check_finite(tiles.image, tiles.names)
        frames = len(tiles) // len(labels)
        first = positions.start * frames
        features = self.reader(tiles.image, range(first, first + len(tiles)), **tiles.inputs)
        if not torch.isfinite(features).all():
            raise ValueError(
                f"{self.backbone.label} gives NaN or infinity on these tiles: check its weights"
            )
        features = reduce(
            features,
            "layers (tiles frames) cells width -> layers tiles cells width",
            "mean",
            frames=frames,
        )
        if self.learning:
            self.head.learn(features, labels, self.reader.grid, positions.start)
        else:
            self.head.validate(features, labels, self.reader.grid)


def run_loop(loop: ProbeLoop, accelerator: str, progress: bool) -> int:
    """Run one pass; gives the number of tiles."""
    with loop.reader:
        # In 32 bits: rounding to 16 would be noise in the features.
        bar = TilesBar("Probing" if loop.learning else "Validating") if progress else None
        run_pass(loop, loop.source.loop, accelerator=accelerator, bar=bar)
    return loop.seen
