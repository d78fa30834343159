"""A map of a scene: windows row by row through the model, blended, and kept strip by strip."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from terratorch_simpler.messages import Reporter
from terratorch_simpler.predicting.job import Job, MapSettings
from terratorch_simpler.predicting.map import RUN_TAG, MapKind, assemble
from terratorch_simpler.predicting.partial import PartialMap
from terratorch_simpler.predicting.scene import Georeference, SceneRows, open_rows
from terratorch_simpler.predicting.session import OnnxModel
from terratorch_simpler.predicting.strips import Strips
from terratorch_simpler.predicting.windows import Placed
from terratorch_simpler.results.deployment import Deployment
from terratorch_simpler.tiles.grid import Image

Progress = Callable[[int, int], None]
"""Gets how many windows are done, and of how many."""


class PredictWarning(UserWarning):
    """Something about a scene that its map does not show."""


@dataclass(frozen=True)
class Made:
    """A map that was made.

    Attributes:
        path: Where it is.
        pixels: Pixels of the scene.
        seconds: Time that it took here, without what an earlier run had finished.
        done_before: Share of its rows that an earlier run had finished.
    """

    path: Path
    pixels: int
    seconds: float
    done_before: float


def make_map(
    model: OnnxModel,
    job: Job,
    batch_size: int = MapSettings.batch_size,
    reporter: Reporter | None = None,
    progress: Progress = lambda done, total: None,
) -> Made:
    """Make a map, or go on with one that was begun.

    It gets its name when it is complete. Until then its finished strips are in a hidden folder
    beside it; those of another model, scene or other settings are discarded.

    Args:
        model: The exported model.
        job: What to make.
        batch_size: Windows in one run of the model.
        reporter: Where to say how it goes; None to say nothing.
        progress: Is told how far it is.

    Raises:
        ValueError: If the model fails, or a file cannot be read.
        OSError: If something cannot be written (a full disk, say); the finished strips are kept.
    """
    reporter = reporter or Reporter()
    started = perf_counter()
    place = Georeference.of(job.scene)
    if not place.is_known:
        _warn(f"{job.scene.name} has no coordinate system, and its map has none")
    if not model.deployment.trained:
        _warn(
            "the model was exported from a config: its decoder and head are untrained, and the map "
            "says nothing"
        )
    partial = PartialMap(job.path, job.identity)
    if partial.discarded:
        reporter.say(
            f"Began {job.path} anew: what was kept of it is of another model, scene or other "
            "settings"
        )
    ends = [job.tiling.rows.done(row) for row in range(len(job.tiling.rows.starts))]
    finished = partial.finished()
    rows_before = ends[finished - 1] if finished else 0
    if finished:
        reporter.say(f"Going on with {job.path} at row {rows_before:,} of {job.scene.height:,}")
    if finished < len(ends):
        with (
            partial.with_strips(),
            open_rows(job.scene, job.tiling.rows, model.deployment) as rows,
        ):
            _Run(model, job, batch_size, progress).make(rows, partial, finished)
            filled = rows.filled
        if filled and model.deployment.no_data_replace is None:
            _warn(
                f"{job.scene.name} has {filled:,} values without data, and the export names "
                "nothing to replace them with (no_data_replace): the mean of each band was read"
            )
    tags = _tags(model.deployment) | {RUN_TAG: job.digest}
    assemble(partial, ends, job.scene.width, job.kind, place, tags)
    pixels = job.scene.height * job.scene.width
    return Made(job.path, pixels, perf_counter() - started, rows_before / max(job.scene.height, 1))


class _Run:
    """One run over the windows of a scene."""

    def __init__(self, model: OnnxModel, job: Job, batch_size: int, progress: Progress) -> None:
        self._model, self._job, self._progress = model, job, progress
        self._batch_size = model.batch_size(batch_size)
        self._columns = [
            job.tiling.columns.pixels(column) for column in range(len(job.tiling.columns.starts))
        ]

    def make(self, rows: SceneRows, partial: PartialMap, finished: int) -> None:
        """Make the strips after those that are finished, and keep them."""
        tiling = self._job.tiling
        axis = tiling.rows
        # Windows before the next strip reach into it.
        begin = axis.first_touching(axis.starts[finished])
        strips = Strips(tiling, self._model.deployment.output.channels, begin)
        usable = any_known = 0
        for row in range(begin, len(axis.starts)):
            rows.move(row)
            self._add_row(rows, row, strips)
            outputs = strips.finish()
            if row < finished:
                continue
            known = rows.known(axis.starts[row], axis.done(row))
            any_known += int(known.sum())
            pixels = self._job.kind.pixels(outputs, known)
            usable += pixels[0].size - int(_lacks(pixels[0], self._job.kind).sum())
            partial.keep(row, pixels)
        self._warn_of_gaps(any_known, usable, finished)

    def _add_row(self, rows: SceneRows, row: int, strips: Strips) -> None:
        tiling = self._job.tiling
        batch: list[Image] = []
        places: list[Placed] = []
        for column, positions in enumerate(self._columns):
            window = rows.cut(positions)
            if window is not None:
                batch.append(window)
                places.append(tiling.place(row, column))
            last = column == len(self._columns) - 1
            if batch and (last or len(batch) == self._batch_size):
                for placed, output in zip(places, self._model.run(batch), strict=True):
                    strips.add(placed, output)
                batch, places = [], []
                self._progress(row * len(self._columns) + column + 1, len(tiling))
        self._progress((row + 1) * len(self._columns), len(tiling))

    def _warn_of_gaps(self, known: int, usable: int, finished: int) -> None:
        name = self._job.scene.name
        if known == 0 and finished == 0:
            _warn(
                f"{name} has no data in any pixel of the bands that the model reads: an empty map"
            )
        elif usable < known:
            _warn(
                f"the model gave no finite number at {known - usable:,} pixels of {name} that have "
                "data: they have none in the map"
            )


def _tags(deployment: Deployment) -> dict[str, str]:
    """What a map says of the model that made it."""
    made_by = ", ".join(f"{name} {version}" for name, version in deployment.made_by.items())
    tags = {"TIFFTAG_SOFTWARE": made_by, "TASK": deployment.task}
    if deployment.model is not None:
        kept, full = len(deployment.model.kept_blocks), deployment.model.full_depth
        tags["MODEL"] = f"{deployment.model.name}, {kept} of {full} blocks"
    return tags


def _lacks(pixels: Any, kind: MapKind) -> Any:
    return pixels == kind.no_data if kind.has_classes else pixels != pixels


def _warn(message: str) -> None:
    warnings.warn(message, PredictWarning, stacklevel=3)
