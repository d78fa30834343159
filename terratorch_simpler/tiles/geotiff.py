"""Unlabelled tiles: a seeded choice of chips from GeoTIFF files and what providers deliver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import numpy as np

from terratorch_simpler.bands import check_bands, check_statistics
from terratorch_simpler.tiles import DEFAULT_SAMPLES, MIN_TILES, Mask
from terratorch_simpler.tiles.chips import (
    TOO_SMALL,
    Candidate,
    ChipRead,
    ChipReader,
    Dropped,
    later_rounds,
)
from terratorch_simpler.tiles.find import find_rasters, name_below
from terratorch_simpler.tiles.grid import Image
from terratorch_simpler.tiles.products import find_scenes
from terratorch_simpler.tiles.quality import check_mask
from terratorch_simpler.tiles.scenes import Scene, UnusableScene
from terratorch_simpler.tiles.tally import Tally

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset


class TileBatch(TypedDict):
    """A batch of tiles: images [B, bands, size, size], float32, and their names."""

    image: Tensor
    filename: list[str]


class GeoTiffTiles:
    """Chips of GeoTIFF files, chosen by seed and read as they are in their files.

    Scenes larger than a chip are cut into a grid of whole chips. Scenes are visited in a seeded
    order, one chip of each before the second of any, so that the choice spreads over all of them.
    It is made from the names alone: a file is opened when its turn comes, where it is read, and not
    kept open. Chips with too little valid data are dropped and replaced by the next ones. Iterating
    yields :class:`TileBatch` in the units of the files: scales and offsets that they declare are
    not applied, as TerraTorch's datasets do not apply them either.

    A scene is a file that stacks its bands, or one file a band, as Sentinel-2 (SAFE), Landsat and
    HLS are delivered. Its grid is that of the finest band asked for; coarser ones are resampled
    between their pixels.

    Args:
        tiles: A folder (searched with its subfolders, links and archives: ``.zip``, ``.tar``), a
            file, a list of either, or a glob. A list can be a text file (``.txt``): one path a
            line, relative ones from where it lies, blank lines and those that begin with ``#`` left
            out. Files can be whatever GDAL opens, as text: ``/vsizip/a.zip/b.tif``,
            ``/vsicurl/https://...``; credentials and the like are GDAL's own settings, from
            environment variables.
        bands: Bands that the backbone reads, in order, in TerraTorch's words.
        dataset_bands: Bands that the files hold, in order. None to go by band descriptions or the
            band codes in file names where the sensor is certain, and otherwise to expect files
            with just ``bands``.
        size: Height and width of a chip in pixels.
        samples: Chips to use, or as many as there are.
        seed: Seed of the choice.
        means: Mean of each band for normalisation; None for those of the pre-trained weights.
        stds: Standard deviation of each band, likewise.
        min_valid: Least share of a chip's pixels that must be valid: finite, with data in every
            band as its file says (nodata, masks), not 0 in all bands, and not in a square that
            holds one number in all bands. The others are filled with the mean of their band.
        mask: Leave out cloud, shadow and snow as the scenes' own quality layer says: ``scl``
            (Sentinel-2), ``fmask`` (HLS) or ``qa_pixel`` (Landsat).
        strict: Make whatever would be left out an error.
        batch_size: Chips in a batch; changes no result.
        num_workers: Processes that read.

    Attributes:
        tally: What was used and what was left out in the last iteration.
        other_files: Files beside the bands of a scene, such as angles and pictures.
        closed_folders: Folders that may not be looked into.

    Raises:
        FileNotFoundError: If the tiles, or what a list names, do not exist.
        ValueError: If there is no raster, a list names something else, a file is damaged, the bands
            do not fit the files, or every scene is smaller than a chip.
    """

    def __init__(
        self,
        tiles: str | Path | Iterable[str | Path],
        bands: Sequence[str],
        dataset_bands: Sequence[str] | None = None,
        size: int = 224,
        samples: int = DEFAULT_SAMPLES,
        seed: int = 0,
        *,
        means: Sequence[float] | None = None,
        stds: Sequence[float] | None = None,
        min_valid: float = 0.9,
        mask: Mask | None = None,
        strict: bool = False,
        batch_size: int = 8,
        num_workers: int = 0,
    ) -> None:
        self.bands = [str(band) for band in bands]
        self.dataset_bands = None if dataset_bands is None else [str(b) for b in dataset_bands]
        check_bands(self.bands, self.dataset_bands)
        for what, value, least in (
            ("size", size, 1),
            ("samples", samples, MIN_TILES),
            ("seed", seed, 0),
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise ValueError(f"{what} must be at least {least}, got {value}")
        if not 0 <= min_valid <= 1:
            raise ValueError(f"min_valid must be from 0 to 1, got {min_valid}")
        check_statistics(self.bands, means, stds)
        check_mask(mask)
        self.source = str(tiles) if isinstance(tiles, str | Path) else "a list of files"
        self.size, self.samples, self.seed = size, samples, seed
        self.means, self.stds, self.min_valid = means, stds, min_valid
        self.mask, self.strict = mask, strict
        self.batch_size, self.num_workers = batch_size, num_workers
        self.tally = Tally()
        rasters = find_rasters(tiles)
        self._root, self.closed_folders = rasters.root, rasters.closed
        if strict and rasters.closed:
            raise ValueError(
                f"strict lets nothing be left out, and {rasters.closed[0]} may not be opened: "
                "give yourself its permission, or leave strict out"
            )
        found = find_scenes(rasters.files)
        self._scenes, self.other_files = found.scenes, found.others
        # The first scene stands for all: mistakes in the bands show before any work.
        with suppress(UnusableScene):
            self.open(0)

    def __repr__(self) -> str:
        return (
            f"GeoTiffTiles: up to {self.samples} tiles of {self.size} x {self.size} px from "
            f"{len(self._scenes)} scene{'s' * (len(self._scenes) != 1)} in {self.source}\n"
            f"  {len(self.bands)} bands: {', '.join(self.bands)}"
        )

    @property
    def dropped(self) -> dict[str, int]:
        """Chips dropped and scenes left out in the last iteration, by reason."""
        return dict(self.tally.dropped)

    def reading(self, names: Sequence[str]) -> dict[str, Any]:
        """What a plan keeps of the last iteration, and of how the files were read.

        Args:
            names: Of the chips that were used.

        Returns:
            Fields of :class:`~terratorch_simpler.results.tiles.TilesRecord`.
        """
        return {
            "scenes": len({name.rpartition("[")[0] for name in names}),
            "left_out": self.tally.left_out(),
            "taken_for": self.tally.taken(self.bands),
            "other_files": len(self.other_files),
            "closed_folders": self.closed_folders,
            "dataset_bands": self.dataset_bands,
            "mask": self.mask,
        }

    def open(self, index: int) -> Scene:
        """Read the headers of a scene, by its position among the names in order.

        Raises:
            ValueError: If a file is no raster or does not hold the bands.
            UnusableScene: If the scene cannot be used.
        """
        files = self._scenes[index]
        bands, size = self.bands, self.size
        return Scene(self.name(index), files, bands, self.dataset_bands, size, self.mask)

    def name(self, index: int) -> str:
        """What a scene is called in plans."""
        return name_below(self._scenes[index].name, self._root)

    def __iter__(self) -> Iterator[TileBatch]:
        """Batches of the chosen chips; all but the last have ``batch_size`` chips."""
        self.tally = Tally()
        used = 0
        waiting: list[tuple[str, Image]] = []
        for chip in self._chips():
            self.tally.add(chip)
            if isinstance(chip.content, Dropped):
                if self.strict:
                    raise ValueError(
                        f"strict lets nothing be left out, and {chip.name} would be "
                        f"({chip.content.reason}): mend or remove it, or leave strict out"
                    )
                continue
            waiting.append((chip.name, chip.content))
            used += 1
            if len(waiting) == self.batch_size:
                yield _stack(waiting)
                waiting = []
            if used == self.samples:
                break
        if used < MIN_TILES:
            raise ValueError(self._too_few(used))
        if waiting:
            yield _stack(waiting)

    def _chips(self) -> Iterator[ChipRead]:
        """Every chip in the order of the choice: the first of each scene, then the second, ..."""
        several: dict[int, int] = {}
        for chip in self._read((scene, 0) for scene in self._order()):
            yield chip
            if chip.count > 1:
                several[chip.scene] = chip.count
        if several:
            yield from self._read(later_rounds(several))

    def _order(self) -> list[int]:
        order: list[int] = np.random.default_rng(self.seed).permutation(len(self._scenes)).tolist()
        return order

    def _read(self, candidates: Iterable[Candidate]) -> Iterator[ChipRead]:
        from torch.utils.data import DataLoader

        reader = ChipReader(self.open, self.name, self.seed, self.min_valid)
        loader = DataLoader(
            cast("Dataset[ChipRead | ValueError]", reader),
            self.batch_size,
            # One after the other as they are read: there may be millions.
            sampler=candidates,
            num_workers=self.num_workers,
            collate_fn=list,
        )
        for chips in loader:
            for chip in chips:
                if isinstance(chip, ValueError):
                    raise chip
                yield chip

    def __len__(self) -> int:
        """Number of batches if there are as many usable chips as ``samples`` asks for."""
        return -(-self.samples // self.batch_size)

    def _too_few(self, used: int) -> str:
        if self.dropped.get(TOO_SMALL) == len(self._scenes):
            scene = self.open(self._order()[-1])
            return (
                f"every scene is {TOO_SMALL} of {self.size} x {self.size} px ({scene.name} is "
                f"{scene.height} x {scene.width}): set size to what the tiles have"
            )
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
        return (
            f"{used} usable chips in {self.source}, at least {MIN_TILES} are needed"
            f"{f' (dropped: {reasons})' if reasons else ''}: add tiles, or make size smaller"
        )


def _stack(chips: list[tuple[str, Image]]) -> TileBatch:
    import torch

    image = torch.from_numpy(np.stack([image for _, image in chips]))
    return {"image": image, "filename": [name for name, _ in chips]}
