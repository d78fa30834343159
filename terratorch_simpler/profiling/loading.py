"""How fast a datamodule delivers its training images, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from time import perf_counter
from typing import Any

from lightning.pytorch import LightningDataModule

from terratorch_simpler.messages import one_line
from terratorch_simpler.results.profile import Loader
from terratorch_simpler.tiles.batches import modalities_of

BATCHES = 32
"""Batches that are timed after the first, or eight of each worker."""
SECONDS = 60.0
"""Time after which no more are."""


def measure_loader(datamodule: LightningDataModule) -> Loader:
    """Time the training loader alone, with its augmentation, as ``terratorch fit`` reads it.

    The first batch does not count: it has to wait for what is opened once.

    Raises:
        ValueError: If its images cannot be read, or there are fewer than two batches.
    """
    name = type(datamodule).__name__
    try:
        datamodule.prepare_data()
        datamodule.setup("fit")
        loader = datamodule.train_dataloader()
        workers = int(getattr(loader, "num_workers", 0))
        batches = iter(loader)
        next(batches)
        images = timed = 0
        start = now = perf_counter()
        for batch in islice(batches, max(BATCHES, 8 * workers)):
            images += _count(batch)
            timed += 1
            now = perf_counter()
            if now - start > SECONDS:
                break
    except Exception as error:
        raise ValueError(
            f"{name} cannot give its training images for --with_loader: {one_line(error)}"
        ) from error
    if not timed:
        raise ValueError(
            f"{name} has one training batch, and --with_loader times those after it: make its "
            "batches smaller, or leave it out"
        )
    return Loader(images / (now - start), timed, workers)


def _count(batch: Any) -> int:
    """Images of a batch."""
    image = batch.get("image", batch) if isinstance(batch, Mapping) else batch
    if isinstance(image, list | tuple):
        return len(image)
    return len(next(iter(modalities_of(image).values())))
