"""The map: what outputs become at a pixel, and the GeoTIFF that holds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EIO
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from terratorch_simpler.messages import one_line
from terratorch_simpler.predicting.palette import NOTHING, palette
from terratorch_simpler.predicting.partial import PartialMap
from terratorch_simpler.predicting.scene import Georeference
from terratorch_simpler.results.deployment import Deployment
from terratorch_simpler.tiles.grid import Flags, Image

NO_CLASS = 255
"""A class map where the scene has no data."""
BLOCK = 256
RUN_TAG = "TERRATORCH_SIMPLER_RUN"
"""Tag of a map that tells what it was made from and how."""


@dataclass(frozen=True)
class MapKind:
    """What a map holds at a pixel.

    Attributes:
        dtype: ``uint8`` or ``float32``.
        no_data: Where the scene has none.
        bands: Name of each band.
        classes: Name of each class; empty for values.
        has_classes: Whether a pixel holds the number of a class.
    """

    dtype: str
    no_data: float
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    has_classes: bool

    def pixels(self, outputs: Image, known: Flags) -> NDArray[Any]:
        """What the map holds.

        Args:
            outputs: Blended outputs, which are used up: [channels, rows, width].
            known: Where the scene has data: [rows, width].

        Returns:
            [bands, rows, width].
        """
        usable = known & np.isfinite(outputs).all(axis=0)
        if self.has_classes:
            chosen = outputs[0] > 0 if len(outputs) == 1 else outputs.argmax(axis=0)
            pixels: NDArray[Any] = chosen.astype(self.dtype)[None]
        elif self.classes:
            pixels = _probabilities(outputs)
        else:
            pixels = outputs
        pixels[:, ~usable] = self.no_data
        return pixels


def map_kind(deployment: Deployment, probabilities: bool = False) -> MapKind:
    """What the map of a model holds.

    Args:
        deployment: What the model gives.
        probabilities: The probability of each class in a band of its own, in the place of the
            likeliest class.

    Raises:
        ValueError: If it has no probabilities, or more classes than a map can hold.
    """
    if deployment.task == "regression":
        if probabilities:
            raise ValueError("a model of regression gives no probabilities: leave the option out")
        return MapKind("float32", float("nan"), ("value",), (), has_classes=False)
    channels = deployment.output.channels
    count = max(channels, 2)
    if count > NO_CLASS:
        raise ValueError(f"a map holds up to {NO_CLASS} classes, the model has {count}")
    named = deployment.output.classes or ()
    # One channel is the second of two classes; only that one may have a name.
    names = ("other", *named) if channels == 1 and len(named) == 1 else named
    classes = names or tuple(f"class {number}" for number in range(count))
    if probabilities:
        bands = classes[1:] if channels == 1 else classes
        return MapKind("float32", float("nan"), bands, classes, has_classes=False)
    return MapKind("uint8", NO_CLASS, ("class",), classes, has_classes=True)


def _probabilities(logits: Image) -> Image:
    """Softmax over the channels, or the sigmoid of one."""
    if len(logits) == 1:
        # Written so that nothing overflows.
        return np.asarray(np.exp(-np.logaddexp(0, -logits)), np.float32)
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits


def assemble(
    partial: PartialMap,
    ends: list[int],
    width: int,
    kind: MapKind,
    place: Georeference,
    tags: Mapping[str, str],
) -> None:
    """Write the map from its strips; it gets its name once it is read back as it should be.

    Args:
        partial: The strips.
        ends: Row after the last of each strip.
        width: Columns of the map.
        kind: What it holds.
        place: Where the scene lies.
        tags: What the file says of itself.

    Raises:
        OSError: If it cannot be written (a full disk, say); the strips are kept.
    """
    unfinished = partial.folder / "map.tif"
    unfinished.unlink(missing_ok=True)
    try:
        _write(unfinished, partial, ends, width, kind, place, tags)
        _check(unfinished, partial, ends)
        unfinished.replace(partial.path)
    except (RasterioError, OSError) as error:
        unfinished.unlink(missing_ok=True)
        failed = error if isinstance(error, OSError) else OSError(EIO, one_line(error))
        raise partial.failed(failed) from error
    partial.remove()


def _write(
    path: Path,
    partial: PartialMap,
    ends: list[int],
    width: int,
    kind: MapKind,
    place: Georeference,
    tags: Mapping[str, str],
) -> None:
    profile = {
        "driver": "GTiff",
        "count": len(kind.bands),
        "height": ends[-1],
        "width": width,
        "dtype": kind.dtype,
        "nodata": kind.no_data,
        **{"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK},
        **{"compress": "deflate", "predictor": 3 if kind.dtype == "float32" else 1},
        **{"bigtiff": "if_safer", "interleave": "band"},
    }
    gcps, gcps_crs = place.gcps
    if not gcps:
        profile["crs"] = place.crs
        # Written down, that of a scene without a place would look like one.
        profile |= {} if place.transform.is_identity else {"transform": place.transform}
    with _without_place(), rasterio.open(path, "w", **profile) as target:
        if gcps:
            target.gcps = gcps, gcps_crs
        if place.rpcs is not None:
            target.rpcs = place.rpcs
        target.update_tags(**tags)
        for number, name in enumerate(kind.bands, 1):
            target.set_band_description(number, name)
        if kind.has_classes:
            target.write_colormap(1, palette(len(kind.classes)) | {NO_CLASS: NOTHING})
            names = {f"CLASS_{number}": name for number, name in enumerate(kind.classes)}
            target.update_tags(1, **names)
        elif len(kind.bands) > 1:
            # Four float bands are no picture with an opacity.
            target.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * (
                len(kind.bands) - 1
            )
        for first in range(0, ends[-1], BLOCK):
            last = min(first + BLOCK, ends[-1])
            rows = np.concatenate([part for _, part in _parts(partial, ends, first, last)], axis=1)
            target.write(rows, window=((first, last), (0, width)))


def _check(path: Path, partial: PartialMap, ends: list[int]) -> None:
    """Read the map back: what fails only when a file is closed is said to nobody."""
    with _without_place(), rasterio.open(path) as written:
        for first in range(0, ends[-1], BLOCK):
            last = min(first + BLOCK, ends[-1])
            rows = written.read(window=((first, last), (0, written.width)))
            same = all(
                np.array_equal(
                    rows[:, start - first : start - first + part.shape[1]],
                    part,
                    equal_nan=part.dtype.kind == "f",
                )
                for start, part in _parts(partial, ends, first, last)
            )
            if not same:
                raise OSError(EIO, "what was written is not what is read back: is the disk full?")


def _parts(
    partial: PartialMap, ends: list[int], first: int, last: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    """The parts of strips that make up some rows of the map, with the row where each begins."""
    for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        top, bottom = max(first, start), min(last, end)
        if top < bottom:
            yield top, partial.strip(number)[:, top - start : bottom - start]


@contextmanager
def _without_place() -> Iterator[None]:
    """Rasterio warns of each file that lies nowhere; that is said once, of the scene."""
    with catch_warnings():
        filterwarnings("ignore", category=NotGeoreferencedWarning)
        yield
