"""Where tiles come from: anything that gives batches, and what it says of their bands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import LightningDataModule
from torch import Tensor

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.bands import band_names, check_statistics
from terratorch_simpler.results.tiles import LeftOut, TilesRecord
from terratorch_simpler.tiles import DEFAULT_SAMPLES
from terratorch_simpler.tiles.batches import Batch
from terratorch_simpler.tiles.datamodule import Split, TaskImages


@runtime_checkable
class TileSource(Protocol):
    """Batches of tiles in the units of their files, and what normalises them.

    A class needs no more than these members to be one; it inherits from nothing. Each iteration
    gives the same batches in the same order: several processes read them side by side. If it has a
    length, that is the number of batches.

    It can say more of itself: ``source`` (a text: where the tiles come from, for the plan),
    ``samples`` and ``seed`` (used where a caller names none), ``dropped`` (how many tiles it left
    out in the last iteration, by reason), and ``reading(names)``, which gives fields of
    :class:`~terratorch_simpler.results.tiles.TilesRecord` for the tiles that were used.

    Attributes:
        bands: Names of the bands in TerraTorch's words, or None.
        means: Mean of each band for normalisation. Where it and ``stds`` are None, the bands take
            the statistics of the pre-trained weights; without bands, the tiles are normalised
            already.
        stds: Standard deviation of each band, likewise.
    """

    @property
    def bands(self) -> Sequence[str] | None: ...  # noqa: D102
    @property
    def means(self) -> Sequence[float] | None: ...  # noqa: D102
    @property
    def stds(self) -> Sequence[float] | None: ...  # noqa: D102
    def __iter__(self) -> Iterator[Batch]: ...


TileInput = TileSource | LightningDataModule | Iterable[Batch]
"""What can be given as tiles; a ``DataLoader`` is an iterable of batches."""


class Stream:
    """Wraps any iterable of batches, so that Lightning does not take a list for several loaders."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Batch]:
        yield from self.batches


@dataclass(frozen=True)
class Source:
    """Tiles ready for a Lightning loop.

    Attributes:
        label: Where the tiles come from, for the plan.
        loop: What ``Trainer.validate`` takes: ``dataloaders`` or ``datamodule``.
        means: Mean of each band if the tiles are still to be normalised.
        stds: Standard deviation of each band, likewise.
        bands: Names of the bands if they are known.
        tiles: What gives the batches, if it says how to normalise them.
        published: Whether means and stds are those of the weights, and not given by the user.
    """

    label: str
    loop: dict[str, Any]
    means: list[float] | None = None
    stds: list[float] | None = None
    bands: list[str] | None = None
    tiles: TileSource | None = None
    published: bool = False

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many tiles were left out in the last pass, by reason, as far as they say so."""
        dropped: Mapping[str, int] = getattr(self.tiles, "dropped", {})
        return dropped

    def record(self, names: list[str], **choice: Any) -> TilesRecord:
        """What a plan keeps of the tiles of the last pass.

        Args:
            names: Those that were used, in order.
            **choice: How they were chosen: other fields of the record.
        """
        tiles = self.tiles
        given: dict[str, Any] = {"means": self.means, "stds": self.stds}
        reading = getattr(tiles, "reading", None)
        if callable(reading):
            given |= reading(names)
        else:
            given["left_out"] = [LeftOut(reason=r, chips=n) for r, n in self.dropped.items()]
        dropped = sum(self.dropped.values())
        return TilesRecord(
            source=self.label, names=names, used=len(names), dropped=dropped, **given, **choice
        )


def open_source(
    tiles: TileInput, samples: int | None, seed: int, split: Split = "training"
) -> Source:
    """Turn anything that :func:`terratorch_simpler.select` takes as tiles into a source.

    Args:
        tiles: A :class:`TileSource` such as ``GeoTiffTiles``, a ``DataLoader``, a
            ``LightningDataModule`` or any iterable of batches.
        samples: Most tiles to use of a datamodule; None for all.
        seed: Seed of the choice from a datamodule.
        split: Which images of a datamodule.

    Raises:
        ValueError: If it is none of these, the seed is negative, or means and stds are not one a
            band.
    """
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    if isinstance(tiles, LightningDataModule):
        return Source(
            f"{split} images of {type(tiles).__name__}",
            {"datamodule": TaskImages(tiles, samples, seed, split)},
            bands=band_names(getattr(tiles, "output_bands", None)),
        )
    if isinstance(tiles, TileSource):
        return _open_tiles(tiles)
    # A caller without type checks can give anything.
    given: object = tiles
    if isinstance(given, Iterable) and not isinstance(given, str | Tensor | Mapping):
        return Source(type(given).__name__, {"dataloaders": Stream(given)})
    raise ValueError(
        "tiles must be GeoTiffTiles, a DataLoader, a LightningDataModule or an iterable of "
        f"batches, got {type(tiles).__name__} (for a folder: GeoTiffTiles(folder, bands=[...]))"
    )


def _open_tiles(tiles: TileSource) -> Source:
    bands = None if tiles.bands is None else [str(band) for band in tiles.bands]
    check_statistics(bands, tiles.means, tiles.stds)
    # Lightning leaves out a loop over what has length 0, and with it our checks at the end.
    length = len(tiles) if isinstance(tiles, Sized) else 0
    label = getattr(tiles, "source", None)
    return Source(
        str(label) if isinstance(label, str | Path) else type(tiles).__name__,
        {"dataloaders": Stream(tiles) if isinstance(tiles, Sequence) or not length else tiles},
        None if tiles.means is None else [float(mean) for mean in tiles.means],
        None if tiles.stds is None else [float(std) for std in tiles.stds],
        bands,
        tiles,
    )


def samples_and_seed(tiles: TileInput, samples: int | None, seed: int | None) -> tuple[int, int]:
    """Most tiles to use, and the seed.

    Args:
        tiles: As :func:`open_source` takes them.
        samples: As asked for; None for what a :class:`TileSource` says, or 512.
        seed: As asked for; None for what a :class:`TileSource` says, or 0.

    Raises:
        ValueError: If there is to be no tile, or what the source says is no number.
    """
    if samples is None:
        samples = _own_number(tiles, "samples", DEFAULT_SAMPLES)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    return samples, _own_number(tiles, "seed", 0) if seed is None else seed


def _own_number(tiles: object, name: str, default: int) -> int:
    value = getattr(tiles, name, None) if isinstance(tiles, TileSource) else None
    if value is None:
        return default
    if not isinstance(value, Integral):
        raise ValueError(
            f"{type(tiles).__name__}.{name} is {type(value).__name__}, and a source of tiles says "
            f"there how many tiles or which seed to use: make it a whole number, or rename it"
        )
    return int(value)


def with_statistics(source: Source, backbone: Backbone) -> Source:
    """Give tiles that are not normalised yet the statistics of the pre-trained weights.

    Raises:
        ValueError: If the backbone publishes none.
    """
    if source.tiles is None or (source.means is not None and source.stds is not None):
        return source
    if source.means is not None or source.stds is not None:
        raise ValueError("give means and stds together, or neither")
    if source.bands is None:
        return source
    statistics = backbone.statistics(source.bands)
    if statistics is None:
        raise ValueError(
            f"{backbone.label} publishes no statistics to normalise with: give means and stds, one "
            "value a band"
        )
    return replace(source, means=statistics[0], stds=statistics[1], published=True)
