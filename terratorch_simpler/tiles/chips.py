"""Reading chips: candidates go in, here or in a worker process, images or reasons come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from torch.utils.data import Dataset, get_worker_info

from terratorch_simpler.tiles.scenes import Image, Scene

TOO_SMALL = "smaller than a chip"
SCENES_KEPT = 128

Candidate = tuple[int, int]
"""A scene by its number, and a position in the seeded order of its chips."""


@dataclass(frozen=True)
class ChipRead:
    """What became of a candidate.

    Attributes:
        scene: Its scene, by number.
        count: Whole chips that the scene has.
        name: Scene, rows and columns.
        content: The image [bands, size, size], or why it is dropped.
    """

    scene: int
    count: int
    name: str
    content: Image | str


class ChipReader(Dataset[ChipRead | ValueError]):
    """Opens scenes and reads their chips, here or in a worker process.

    An error is returned, not raised: a worker process would wrap it in its traceback.

    Args:
        open_scene: Opens a scene by its number.
        seed: Seed of the order of a scene's chips.
        min_valid: Least share of a chip's pixels that must be valid.
    """

    def __init__(self, open_scene: Callable[[int], Scene], seed: int, min_valid: float) -> None:
        self.open_scene, self.seed, self.min_valid = open_scene, seed, min_valid

    @cached_property
    def _open(self) -> Callable[[int], Scene]:
        # A few large scenes come up again and again; of an archive, none must stay.
        return lru_cache(SCENES_KEPT)(self.open_scene)

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        # GDAL keeps a thread's connections to servers: in the thread that was forked, workers would
        # inherit those of the main process and take each other's answers.
        return ThreadPoolExecutor(1)

    def __getitem__(self, candidate: Candidate) -> ChipRead | ValueError:
        """Read one chip."""
        if get_worker_info() is None:
            return self._read(candidate)
        return self._thread.submit(self._read, candidate).result()

    def _read(self, candidate: Candidate) -> ChipRead | ValueError:
        index, ordinal = candidate
        try:
            scene = self._open(index)
            if scene.count == 0:
                return ChipRead(index, 0, scene.name, TOO_SMALL)
            order = np.random.default_rng([self.seed, index]).permutation(scene.count)
            chip = scene.chip(int(order[ordinal]))
            image, problem = clean(scene.read(chip), scene.nodata, self.min_valid)
        except ValueError as error:
            return error
        rows = f"{chip.row}:{chip.row + scene.size}"
        name = f"{scene.name}[{rows},{chip.column}:{chip.column + scene.size}]"
        return ChipRead(index, scene.count, name, problem or image)


def later_rounds(counts: Mapping[int, int]) -> Iterator[Candidate]:
    """The second chip of each scene that has as many, then the third, ..."""
    for ordinal in range(1, max(counts.values())):
        counts = {scene: count for scene, count in counts.items() if count > ordinal}
        yield from ((scene, ordinal) for scene in counts)


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
