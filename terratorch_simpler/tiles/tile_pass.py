"""One pass over tiles: batches are taken apart, checked, normalised and handed on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from lightning.pytorch import LightningModule
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.tiles.batches import (
    Batch,
    Tiles,
    by_frame,
    modalities_of,
    pinned,
    unpack,
)
from terratorch_simpler.tiles.checks import check_images
from terratorch_simpler.tiles.sources import Source


class TilePass(LightningModule):
    """One pass of a backbone over tiles, run by :func:`terratorch_simpler.lightning.run_pass`.

    What becomes of the tiles is the business of a subclass (:meth:`add`). It can read more of a
    batch (:meth:`read`), ask for it in parts (:meth:`parts`) and end the pass (:meth:`has_enough`).

    Args:
        backbone: The full backbone.
        source: Where the tiles come from, and what normalises them.
        samples: Most tiles to use; None for all.

    Attributes:
        seen: Tiles handed on so far.
    """

    means: Tensor | None
    stds: Tensor | None

    def __init__(self, backbone: Backbone, source: Source, samples: int | None = None) -> None:
        super().__init__()
        # As an attribute of its own, so that Lightning moves it to the device.
        self.backbone, self.module = backbone, backbone.module
        self.source, self.samples, self.seen = source, samples, 0
        for name, values in (("means", source.means), ("stds", source.stds)):
            value = None if values is None else torch.tensor(values)
            self.register_buffer(name, value, persistent=False)

    def add(self, tiles: Tiles, positions: range) -> None:
        """Use some tiles.

        Args:
            tiles: On the device, normalised where the source has statistics.
            positions: Position of each in the stream.

        Raises:
            ValueError: If they cannot be used.
        """
        raise NotImplementedError

    def read(self, batch: Batch) -> Tiles:
        """Take a batch apart: tiles as the backbone runs them."""
        return self.as_run(unpack(batch, self.backbone.family.inputs))

    def as_run(self, tiles: Tiles) -> Tiles:
        """Tiles as the backbone runs them: each frame a tile where a wrapper makes them so.

        Raises:
            ValueError: If the backbone cannot read them.
        """
        if self.backbone.by_frame:
            tiles = by_frame(tiles)
        check_images(tiles.image, self.backbone, tiles.inputs)
        return tiles

    def parts(self, count: int) -> Iterator[tuple[int, int]]:
        """Where to divide the next tiles: first and last + 1 of each part, counted from 0."""
        yield 0, count

    def has_enough(self) -> bool:
        """Whether no more tiles are needed; asked after each part."""
        return False

    def not_finite(self) -> ValueError:
        """The error for a backbone that gives no finite numbers."""
        return ValueError(
            f"{self.backbone.label} gives NaN or infinity on these tiles: check its weights, "
            "or run in a higher precision"
        )

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Copy a batch to the device; a GPU goes on computing meanwhile."""
        if device.type == "cuda":
            batch = apply_to_collection(batch, Tensor, pinned)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Hand one batch of tiles on.

        Raises:
            ValueError: If it holds no tiles that can be used.
            StopIteration: After the last tile that is needed. Lightning asks its loader for the
                next batch and runs this step within one ``try``: for both, StopIteration is the end
                of the loop, after which the hooks for the end of an epoch run as ever. In several
                processes every one sees the same tiles and stops at the same one.
        """
        del batch_idx
        tiles = self.read(batch)
        count = len(tiles)
        if self.samples is not None:
            count = min(count, self.samples - self.seen)
        for start, stop in self.parts(count):
            part = self._normalise(tiles.part(start, stop).to(self.device))
            self.add(part, range(self.seen, self.seen + stop - start))
            self.seen += stop - start
            if self.seen == self.samples or self.has_enough():
                raise StopIteration

    def _normalise(self, tiles: Tiles) -> Tiles:
        if self.means is None or self.stds is None:
            return tiles
        image = tiles.image
        if not isinstance(image, Tensor) or image.shape[1] != len(self.means):
            shapes = {
                name or "image": list(one.shape[1:]) for name, one in modalities_of(image).items()
            }
            raise ValueError(
                f"{self.source.label} has means and stds for {len(self.means)} bands, its tiles "
                f"are {shapes}: give statistics for one image of as many bands, or normalise "
                "the tiles before"
            )
        bands = (-1, *[1] * (image.ndim - 2))
        return replace(tiles, image=(image - self.means.view(bands)) / self.stds.view(bands))
