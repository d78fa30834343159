from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.transform import from_origin

from terratorch_simpler.predicting.map import MapKind, assemble, map_kind
from terratorch_simpler.predicting.palette import palette
from terratorch_simpler.predicting.partial import PartialMap
from terratorch_simpler.predicting.scene import Georeference
from tests.predicting.models import deployment

NOWHERE = Georeference(None, rasterio.Affine.identity(), ((), None), None)
HERE = Georeference(CRS.from_epsg(32633), from_origin(4e5, 5.8e6, 10, 10), ((), None), None)


def logits(channels: int = 3, side: int = 8) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 4, (channels, side, side)).astype(np.float32)


def everywhere(side: int = 8) -> NDArray[np.bool_]:
    return np.ones((side, side), bool)


def output(channels: int, classes: tuple[str, ...] | None) -> dict[str, Any]:
    return {"name": "output", "channels": channels, "classes": classes}


def written(
    folder: Path, pixels: NDArray[Any], kind: MapKind, place: Georeference = HERE
) -> tuple[Path, PartialMap]:
    """A map of strips of 100 rows."""
    partial = PartialMap(folder / "map.tif", {})
    ends = [*range(100, pixels.shape[1], 100), pixels.shape[1]]
    for number, end in enumerate(ends):
        partial.keep(number, pixels[:, 100 * number : end])
    assemble(partial, ends, pixels.shape[2], kind, place, {"MADE_OF": "strips"})
    return folder / "map.tif", partial


def test_a_class_is_the_channel_with_the_largest_logit() -> None:
    values, known = logits(), everywhere()
    known[2, 3] = False
    values[1, 4, 5] = np.nan
    chosen = values.argmax(axis=0)
    pixels = map_kind(deployment()).pixels(values, known)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (1, 8, 8)
    assert pixels[0, 2, 3] == pixels[0, 4, 5] == 255
    chosen[2, 3] = chosen[4, 5] = 255
    assert (pixels[0] == chosen).all()


def test_one_channel_is_the_logit_of_the_second_class() -> None:
    kind = map_kind(deployment(output=output(1, ("land", "water"))))
    values = logits(1)
    assert (kind.pixels(values.copy(), everywhere())[0] == (values[0] > 0)).all()
    assert kind.classes == ("land", "water")
    assert map_kind(deployment(output=output(1, ("water",)))).classes == ("other", "water")
    assert map_kind(deployment(classes=1)).classes == ("class 0", "class 1")


def test_probabilities_are_the_softmax() -> None:
    kind = map_kind(deployment(output=output(3, ("a", "b", "c"))), probabilities=True)
    values = logits()
    expected = np.exp(values) / np.exp(values).sum(axis=0)
    known = everywhere()
    known[0] = False
    pixels = kind.pixels(values.copy(), known)
    assert kind.bands == ("a", "b", "c")
    assert np.allclose(pixels[:, 1:], expected[:, 1:], atol=1e-6)
    assert np.isnan(pixels[:, 0]).all()


def test_the_probability_of_one_channel_is_the_sigmoid() -> None:
    kind = map_kind(deployment(output=output(1, ("land", "water"))), probabilities=True)
    values = np.array([[[-2000.0, -1, 0, 3, 2000]]], np.float32)
    pixels = kind.pixels(values.copy(), np.ones((1, 5), bool))
    assert kind.bands == ("water",)
    assert np.allclose(pixels[0, 0], [0, 1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-3)), 1])


def test_values_of_regression_stay_as_they_are() -> None:
    kind = map_kind(deployment("regression", classes=1))
    values, known = logits(1), everywhere()
    known[3] = False
    pixels = kind.pixels(values.copy(), known)
    assert np.array_equal(np.delete(pixels, 3, axis=1), np.delete(values, 3, axis=1))
    assert np.isnan(pixels[:, 3]).all()


def test_what_a_map_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="regression gives no probabilities"):
        map_kind(deployment("regression", classes=1), probabilities=True)
    with pytest.raises(ValueError, match="up to 255 classes, the model has 256"):
        map_kind(deployment(classes=256))
    assert len(map_kind(deployment(classes=255)).classes) == 255


def test_a_map_of_classes_says_what_they_are(tmp_path: Path) -> None:
    kind = map_kind(deployment(output=output(3, ("farm", "water", "town"))))
    pixels = np.random.default_rng(0).integers(0, 3, (1, 530, 270)).astype(np.uint8)
    path, partial = written(tmp_path, pixels, kind)
    with rasterio.open(path) as made:
        assert (made.read() == pixels).all()
        assert (made.crs, made.transform) == (HERE.crs, HERE.transform)
        assert made.nodata == 255
        assert made.profile["tiled"]
        assert made.profile["compress"] == "deflate"
        assert made.tags()["MADE_OF"] == "strips"
        names = {name: text for name, text in made.tags(1).items() if name.startswith("CLASS_")}
        assert names == {"CLASS_0": "farm", "CLASS_1": "water", "CLASS_2": "town"}
        colours = made.colormap(1)
        assert {number: colours[number] for number in range(3)} == palette(3)
        assert made.colorinterp == (ColorInterp.palette,)
    assert not partial.folder.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["map.tif"]


def test_a_map_of_probabilities_has_a_band_for_each_class(tmp_path: Path) -> None:
    kind = map_kind(deployment(output=output(4, ("a", "b", "c", "d"))), probabilities=True)
    pixels = np.random.default_rng(0).random((4, 300, 300)).astype(np.float32)
    pixels[:, 100:120] = np.nan
    path, _ = written(tmp_path, pixels, kind)
    with rasterio.open(path) as made:
        assert np.array_equal(made.read(), pixels, equal_nan=True)
        assert made.descriptions == ("a", "b", "c", "d")
        assert np.isnan(made.nodata)
        # A fourth float band is not taken for an opacity.
        assert ColorInterp.alpha not in made.colorinterp


def test_a_map_lies_where_its_scene_lies(tmp_path: Path) -> None:
    pixels, kind = np.zeros((1, 8, 8), np.uint8), map_kind(deployment())
    turned = rasterio.Affine(8, 6, 4e5, 6, -8, 5.8e6)
    path, _ = written(
        tmp_path / "turned", pixels, kind, Georeference(HERE.crs, turned, ((), None), None)
    )
    with rasterio.open(path) as made:
        assert made.transform == turned
    points = [
        GroundControlPoint(row, column, column * 10.0, -row * 10.0)
        for row in (0, 8)
        for column in (0, 8)
    ]
    place = Georeference(None, rasterio.Affine.identity(), (points, HERE.crs), None)
    path, _ = written(tmp_path / "points", pixels, kind, place)
    with rasterio.open(path) as made:
        found, crs = made.gcps
        assert crs == HERE.crs
        assert [(point.row, point.x, point.y) for point in found] == [
            (point.row, point.x, point.y) for point in points
        ]
    coefficients = {
        f"{side}_{part}_coeff": [float(number) for number in range(20)]
        for side in ("line", "samp")
        for part in ("num", "den")
    }
    scales = {
        f"{name}_{what}": 1.0
        for name in ("height", "lat", "line", "long", "samp")
        for what in ("off", "scale")
    }
    place = Georeference(
        None, rasterio.Affine.identity(), ((), None), RPC(**coefficients, **scales)
    )
    path, _ = written(tmp_path / "polynomials", pixels, kind, place)
    with rasterio.open(path) as made:
        assert made.rpcs.line_num_coeff == coefficients["line_num_coeff"]
    path, _ = written(tmp_path / "nowhere", pixels, kind, NOWHERE)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(path) as made:
        assert made.crs is None


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file may grow beyond some bytes; the system says so as it does of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("size", [0, 100, 5_000, 80_000])
def test_a_disk_that_fills_leaves_no_map_and_keeps_the_strips(size: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 3, (1, 700, 700)).astype(np.uint8)
    partial = PartialMap(tmp_path / "map.tif", {})
    partial.keep(0, pixels)
    how: tuple[Any, ...] = (partial, [700], 700, map_kind(deployment()), HERE, {})
    with small_disk(size), pytest.raises(OSError, match=r"kept in .*\.map\.tif\.partial"):
        assemble(*how)
    assert not (tmp_path / "map.tif").exists()
    assert partial.finished() == 1
    assemble(*how)
    with rasterio.open(tmp_path / "map.tif") as made:
        assert (made.read() == pixels).all()
