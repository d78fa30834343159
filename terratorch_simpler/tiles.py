"""Unlabelled tiles: a seeded choice of chips from GeoTIFF files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from terratorch_simpler.bands import check_bands
from terratorch_simpler.scenes import Chip, Image, Scene, find_rasters, group_scenes

MIN_TILES = 4


class TileBatch(TypedDict):
    """A batch of tiles: images [B, bands, size, size], float32, and their names."""

    image: Tensor
    filename: list[str]


class GeoTiffTiles:
    """Chips of GeoTIFF files, chosen by seed and read through torchgeo.

    Scenes larger than a chip are cut into a grid of whole chips. Scenes are visited in a seeded
    order, one chip of each before the second of any, so that the choice spreads over all of them
    and only as many files are opened as needed. Chips with too little valid data are dropped and
    replaced by the next ones. Iterating yields :class:`TileBatch` in the units of
    the files.

    Args:
        tiles: A folder (searched with its subfolders), a file, a list of either, or a glob.
        bands: Bands that the backbone reads, in order, in TerraTorch's words.
        dataset_bands: Bands that the files hold, in order. None to use band descriptions where
            they are set, and otherwise to expect files with just ``bands``.
        size: Height and width of a chip in pixels.
        samples: Chips to use, or as many as there are.
        seed: Seed of the choice.
        means: Mean of each band for normalisation; None for those of the pre-trained weights.
        stds: Standard deviation of each band, likewise.
        min_valid: Least share of a chip's pixels that must be valid: finite, not nodata, and not 0
            in every band. The others are filled with the mean of their band.
        batch_size: Chips in a batch; changes no result.
        num_workers: Processes that read.

    Attributes:
        dropped: Chips dropped in the last iteration, by reason.

    Raises:
        FileNotFoundError: If the tiles do not exist.
        ValueError: If there is no raster, a file is damaged, the bands do not fit the files, or
            every scene is smaller than a chip.
    """

    def __init__(
        self,
        tiles: str | Path | Iterable[str | Path],
        bands: Sequence[str],
        dataset_bands: Sequence[str] | None = None,
        size: int = 224,
        samples: int = 512,
        seed: int = 0,
        *,
        means: Sequence[float] | None = None,
        stds: Sequence[float] | None = None,
        min_valid: float = 0.9,
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
        for what, values in (("means", means), ("stds", stds)):
            if values is not None and len(values) != len(self.bands):
                raise ValueError(
                    f"{what} has {len(values)} values for {len(self.bands)} bands: give one a band"
                )
            if values is not None and not np.isfinite(values).all():
                raise ValueError(f"{what} must be finite numbers, got {list(values)}")
        if stds is not None and min(stds) <= 0:
            raise ValueError(f"stds must be above 0, got {min(stds)}")
        self.source = str(tiles) if isinstance(tiles, str | Path) else "a list of files"
        self.size, self.samples, self.seed = size, samples, seed
        self.means, self.stds, self.min_valid = means, stds, min_valid
        self.batch_size, self.num_workers = batch_size, num_workers
        self.dropped: dict[str, int] = {}
        files, self._root = find_rasters(tiles)
        self._files = group_scenes(files)
        # The first scene stands for all: mistakes in the bands show before any work.
        self._scene(0)

    def _scene(self, index: int) -> Scene:
        files = self._files[index]
        name = files[0].relative_to(self._root).as_posix()
        return Scene(name, files, self.bands, self.dataset_bands, self.size)

    def candidates(self) -> Iterator[tuple[Scene, Chip]]:
        """Every chip in the order of the choice: the first of each scene, then the second, ..."""
        order = np.random.default_rng(self.seed).permutation(len(self._files))
        queues: list[tuple[Scene, list[Chip]]] = []
        small: Scene | None = None
        for index in order:
            scene = self._scene(int(index))
            chips = scene.chips()
            if not chips:
                small = scene
                self.dropped["smaller than a chip"] = self.dropped.get("smaller than a chip", 0) + 1
                continue
            shuffled = np.random.default_rng([self.seed, int(index)]).permutation(len(chips))
            yield scene, chips[shuffled[0]]
            if len(chips) > 1:
                queues.append((scene, [chips[i] for i in shuffled[1:]]))
        if small is not None and len(order) == self.dropped["smaller than a chip"]:
            raise ValueError(
                f"every scene is smaller than a chip of {self.size} x {self.size} px ({small.name} "
                f"is {small.height} x {small.width}): set size to what the tiles have"
            )
        while queues:
            for scene, chips in queues:
                yield scene, chips.pop(0)
            queues = [(scene, chips) for scene, chips in queues if chips]

    def __iter__(self) -> Iterator[TileBatch]:
        """Batches of the chosen chips; all but the last have ``batch_size`` chips."""
        self.dropped = {}
        candidates = self.candidates()
        used = 0
        waiting: list[tuple[str, Image]] = []
        while used < self.samples and (chosen := list(islice(candidates, self.samples - used))):
            loader = DataLoader(
                _Chips(chosen, self.min_valid),
                batch_size=self.batch_size,
                num_workers=self.num_workers,
                collate_fn=list,
            )
            for chips in loader:
                for chip in chips:
                    if isinstance(chip, ValueError):
                        raise chip
                    name, image, problem = chip
                    if problem is not None:
                        self.dropped[problem] = self.dropped.get(problem, 0) + 1
                        continue
                    waiting.append((name, image))
                    used += 1
                    if len(waiting) == self.batch_size:
                        yield _stack(waiting)
                        waiting = []
        if used < MIN_TILES:
            raise ValueError(self._too_few(used))
        if waiting:
            yield _stack(waiting)

    def __len__(self) -> int:
        """Number of batches if there are as many usable chips as ``samples`` asks for."""
        return -(-self.samples // self.batch_size)

    def _too_few(self, used: int) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
        return (
            f"{used} usable chips in {self.source}, at least {MIN_TILES} are needed"
            f"{f' (dropped: {reasons})' if reasons else ''}: add tiles, or make size smaller"
        )


class _Chips(Dataset[tuple[str, Image, str | None] | ValueError]):
    """Reads chips and says what is wrong with those that cannot be used.

    An error is returned, not raised: a worker process would wrap it in its traceback.
    """

    def __init__(self, chips: list[tuple[Scene, Chip]], min_valid: float) -> None:
        self.chips, self.min_valid = chips, min_valid

    def __len__(self) -> int:
        return len(self.chips)

    def __getitem__(self, index: int) -> tuple[str, Image, str | None] | ValueError:
        scene, chip = self.chips[index]
        try:
            image = scene.read(chip)
        except ValueError as error:
            return error
        rows = f"{chip.row}:{chip.row + scene.size}"
        name = f"{scene.name}[{rows},{chip.column}:{chip.column + scene.size}]"
        return (name, *clean(image, scene.nodata, self.min_valid))


def clean(image: Image, nodata: float | None, min_valid: float) -> tuple[Image, str | None]:
    """Fill the invalid pixels of a chip, or say why it cannot be used.

    Args:
        image: [bands, H, W].
        nodata: The file's nodata value, if it has one.
        min_valid: Least share of valid pixels.

    Returns:
        The image, invalid pixels replaced by the mean of their band; and the reason to drop it, or
        None.
    """
    finite = np.isfinite(image).all(axis=0)
    valid = finite & (image != 0).any(axis=0)
    if nodata is not None and np.isfinite(nodata):
        valid &= (image != np.float32(nodata)).all(axis=0)
    if valid.mean() < min_valid or not valid.any():
        return image, "mostly NaN or infinite" if finite.mean() < min_valid else "mostly nodata"
    if not valid.all():
        image = np.where(valid, image, image[:, valid].mean(axis=1)[:, None, None])
    return image, None


def _stack(chips: list[tuple[str, Image]]) -> TileBatch:
    image = torch.from_numpy(np.stack([image for _, image in chips]))
    return {"image": image, "filename": [name for name, _ in chips]}
