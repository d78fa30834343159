"""A map to be made: how, from what, and whether it is there already."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError

from terratorch_simpler.predicting.bands import open_scene
from terratorch_simpler.predicting.map import RUN_TAG, MapKind, map_kind
from terratorch_simpler.predicting.session import OnnxModel
from terratorch_simpler.predicting.windows import Tiling, make_tiling
from terratorch_simpler.tiles.archives import outside
from terratorch_simpler.tiles.products import SceneFiles
from terratorch_simpler.tiles.scenes import Scene


@dataclass(frozen=True)
class MapSettings:
    """How to make a map.

    Attributes:
        crop: Height and width of a window; None for those of the export.
        stride: Pixels from one window to the next; None for 192 of 224, in proportion.
        delta: Border of each window that does not count; None for 8 of 224, in proportion.
        padding: Whether to pad the scene by reflection.
        batch_size: Windows in one run of the model; changes no result.
        probabilities: Write the probability of each class in the place of the likeliest one.
        dataset_bands: What the scenes hold, in order.
    """

    crop: int | None = None
    stride: int | None = None
    delta: int | None = None
    padding: bool = True
    batch_size: int = 4
    probabilities: bool = False
    dataset_bands: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.crop is not None and self.crop < 1:
            raise ValueError(f"crop must be at least 1 pixel, got {self.crop}")


@dataclass(frozen=True)
class Job:
    """A map to be made, checked as far as the headers of its files say.

    Attributes:
        path: Where it is to be.
        scene: The scene.
        tiling: Its windows.
        kind: What the map holds.
        identity: What it is made from and how.
    """

    path: Path
    scene: Scene
    tiling: Tiling
    kind: MapKind
    identity: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    def is_made(self) -> bool:
        """Whether the map is there already, of the same model, scene and settings."""
        if not self.path.is_file():
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with rasterio.open(self.path) as made:
                    return bool(made.tags().get(RUN_TAG) == self.digest)
            except RasterioError:
                return False


def plan_map(model: OnnxModel, files: SceneFiles, path: Path, settings: MapSettings) -> Job:
    """Check what can be checked before a map is made.

    Args:
        model: The exported model.
        files: The files of the scene.
        path: Where the map is to be.
        settings: How to make it.

    Raises:
        ValueError: If the model, the scene and the settings do not go together.
    """
    deployment = model.deployment
    first = deployment.inputs[0]
    crop = (first.height, first.width)
    if settings.crop is not None and (settings.crop, settings.crop) != crop:
        if not deployment.dynamic_size:
            raise ValueError(
                f"crop is {settings.crop}, but {model.path} takes {crop[0]} x {crop[1]} px alone: "
                "leave it out, or export the model for this size"
            )
        crop = (settings.crop, settings.crop)
    kind = map_kind(deployment, settings.probabilities)
    scene = open_scene(files, deployment, settings.dataset_bands)
    size = (scene.height, scene.width)
    tiling = make_tiling(
        size, crop, settings.stride, settings.delta, settings.padding, deployment.dynamic_size
    )
    identity = {
        "model": model.fingerprint,
        "files": [_stamp(file) for file in dict.fromkeys(path for path, _ in scene.places)],
        "bands": [[Path(file).name, index] for file, index in scene.places],
        "size": list(size),
        "crop": [tiling.rows.crop, tiling.columns.crop],
        "stride": [tiling.rows.stride, tiling.columns.stride],
        "delta": tiling.rows.delta,
        "padding": settings.padding,
        "probabilities": settings.probabilities,
    }
    return Job(path, scene, tiling, kind, identity)


def _stamp(file: str) -> list[Any]:
    """What tells a file from another one: its name, and size and time of what is on disk.

    Of a file in an archive that is the archive.
    """
    inside = Path(outside(file))
    path = next((part for part in (inside, *inside.parents) if part.is_file()), None)
    if path is None:
        return [file]
    found = path.stat()
    return [inside.relative_to(path.parent).as_posix(), found.st_size, found.st_mtime_ns]
