"""Reading chips: candidates go in, here or in a worker process, images or reasons come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from terratorch_simpler.tiles.grid import Image
from terratorch_simpler.tiles.scenes import Scene, Taken, UnusableScene
from terratorch_simpler.tiles.valid import clean

TOO_SMALL = "smaller than a chip"
SCENES_KEPT = 128

Candidate = tuple[int, int]
"""A scene by its number, and a position in the seeded order of its chips."""


@dataclass(frozen=True)
class Dropped:
    """Why there is no image.

    Attributes:
        reason: Why, in the plural.
        whole: Whether this is so for the whole scene.
    """

    reason: str
    whole: bool = False


@dataclass(frozen=True)
class ChipRead:
    """What became of a candidate.

    Attributes:
        scene: Its scene, by number.
        count: Whole chips that the scene has.
        name: Scene, rows and columns; of the scene alone where all of it is left out.
        content: The image [bands, size, size], or why it is dropped.
        taken: What the scene was taken for, where it could be opened.
    """

    scene: int
    count: int
    name: str
    content: Image | Dropped
    taken: Taken | None = None


class ChipReader:
    """Opens scenes and reads their chips, here or in a worker process: a dataset of torch.

    An error is returned, not raised: a worker process would wrap it in its traceback.

    Args:
        open_scene: Opens a scene by its number.
        name_of: What a scene is called, by its number.
        seed: Seed of the order of a scene's chips.
        min_valid: Least share of a chip's pixels that must be valid.
    """

    def __init__(
        self,
        open_scene: Callable[[int], Scene],
        name_of: Callable[[int], str],
        seed: int,
        min_valid: float,
    ) -> None:
        self.open_scene, self.name_of = open_scene, name_of
        self.seed, self.min_valid = seed, min_valid

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
        # Only what reads chips waits for torch: mistakes in the tiles show before.
        from torch.utils.data import get_worker_info

        if get_worker_info() is None:
            return self._read(candidate)
        return self._thread.submit(self._read, candidate).result()

    def _read(self, candidate: Candidate) -> ChipRead | ValueError:
        index, ordinal = candidate
        try:
            scene = self._open(index)
            if scene.count == 0:
                return self._without(index, TOO_SMALL)
            order = np.random.default_rng([self.seed, index]).permutation(scene.count)
            chip = scene.chip(int(order[ordinal]))
            image, problem = clean(scene.read(chip), self.min_valid)
        except UnusableScene as reason:
            return self._without(index, str(reason))
        except ValueError as error:
            return error
        rows = f"{chip.row}:{chip.row + scene.size}"
        name = f"{scene.name}[{rows},{chip.column}:{chip.column + scene.size}]"
        content = image if problem is None else Dropped(problem)
        return ChipRead(index, scene.count, name, content, scene.taken)

    def _without(self, index: int, reason: str) -> ChipRead:
        return ChipRead(index, 0, self.name_of(index), Dropped(reason, whole=True))


def later_rounds(counts: Mapping[int, int]) -> Iterator[Candidate]:
    """The second chip of each scene that has as many, then the third, ..."""
    for ordinal in range(1, max(counts.values())):
        counts = {scene: count for scene, count in counts.items() if count > ordinal}
        yield from ((scene, ordinal) for scene in counts)
