from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.enums import ColorInterp

from terratorch_simpler.predicting.bands import open_scene
from terratorch_simpler.results.deployment import Deployment, ModelInput
from terratorch_simpler.tiles.products import find_scenes
from terratorch_simpler.tiles.scenes import Scene
from tests.predicting.models import deployment
from tests.rasters import BANDS, landscape, write_band_files, write_raster

RGB = ["RED", "GREEN", "BLUE"]


def opened(
    path: Path, record: Deployment, dataset_bands: Sequence[str] | None = None, **how: Any
) -> Scene:
    bands = how.pop("bands", 3)
    write_raster(path, landscape(bands, 16), **how)
    (files,) = find_scenes([str(path)]).scenes
    return open_scene(files, record, dataset_bands)


def indexes(scene: Scene) -> list[int]:
    return [index for _, index in scene.places]


def test_descriptions_say_which_bands_they_are(tmp_path: Path) -> None:
    described = ["SWIR_1", "blue", "Green", "RED"]
    scene = opened(tmp_path / "s.tif", deployment(bands=RGB), bands=4, descriptions=described)
    assert indexes(scene) == [4, 3, 2]


def test_dataset_bands_say_it_else(tmp_path: Path) -> None:
    held = ["BLUE", "HEIGHT", "GREEN", "RED"]
    assert indexes(opened(tmp_path / "s.tif", deployment(bands=RGB), held, bands=4)) == [4, 3, 1]


def test_as_many_bands_without_a_name_are_in_order(tmp_path: Path) -> None:
    assert indexes(opened(tmp_path / "s.tif", deployment(bands=RGB))) == [1, 2, 3]
    assert indexes(opened(tmp_path / "t.tif", deployment(bands=None), bands=6)) == list(range(1, 7))


def test_an_opacity_is_no_band(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", landscape(7, 16), dtype="uint8")
    with rasterio.open(path, "r+") as source:
        source.colorinterp = [ColorInterp.gray] * 6 + [ColorInterp.alpha]
    (files,) = find_scenes([str(path)]).scenes
    for record in (deployment(bands=BANDS), deployment(bands=None)):
        assert indexes(open_scene(files, record)) == list(range(1, 7))


def test_band_files_are_read_as_they_are_delivered(tmp_path: Path) -> None:
    image = landscape(3, 16)
    files = dict(zip(["BLUE", "GREEN", "RED"], image, strict=True))
    paths = write_band_files(tmp_path, "field", files, 16)
    (found,) = find_scenes([str(path) for path in paths]).scenes
    scene = open_scene(found, deployment(bands=RGB))
    assert [Path(path).stem for path, _ in scene.places] == [
        "field_RED",
        "field_GREEN",
        "field_BLUE",
    ]


def test_other_bands_are_refused_with_both_lists(tmp_path: Path) -> None:
    described = ["VV", "VH", "RED"]
    with pytest.raises(ValueError, match=r"has no GREEN, BLUE: it holds VV, VH, RED .*dataset_ban"):
        opened(tmp_path / "s.tif", deployment(bands=RGB), descriptions=described)
    with pytest.raises(ValueError, match=r"holds 4 bands and 3 are asked for \(RED, GREEN, BLUE\)"):
        opened(tmp_path / "t.tif", deployment(bands=RGB), bands=4)
    with pytest.raises(ValueError, match="holds 3 bands, dataset_bands names 4"):
        opened(tmp_path / "u.tif", deployment(bands=RGB), [*RGB, "VV"])
    with pytest.raises(ValueError, match="BLUE not in dataset_bands: there are RED, GREEN, VV"):
        opened(tmp_path / "v.tif", deployment(bands=RGB), ["RED", "GREEN", "VV"])


def test_bands_without_names_go_by_their_number_alone(tmp_path: Path) -> None:
    record = deployment(bands=None, channels=3)
    with pytest.raises(
        ValueError, match=r"holds 4 bands, and the model reads 3 .*band 3.*: stack 3"
    ):
        opened(tmp_path / "s.tif", record, bands=4)
    with pytest.raises(ValueError, match="the export does not name its bands"):
        opened(tmp_path / "t.tif", record, RGB)


def test_time_steps_lie_one_after_the_other(tmp_path: Path) -> None:
    record = deployment(bands=RGB, frames=2)
    assert indexes(opened(tmp_path / "s.tif", record, bands=6)) == [1, 2, 3, 4, 5, 6]
    held = ["BLUE", "GREEN", "RED", "NIR"]
    found = indexes(opened(tmp_path / "t.tif", record, held, bands=8))
    assert found == [3, 2, 1, 7, 6, 5]
    with pytest.raises(ValueError, match=r"holds 3 bands, .* at 2 times: stack 6 in one file, t"):
        opened(tmp_path / "u.tif", record)


def two(bands: Sequence[str] = ("VV", "VH"), **changes: Any) -> Deployment:
    """A model of two inputs."""
    one = deployment(bands=RGB).inputs[0].model_dump()
    radar = {"name": "radar", "bands": tuple(bands), "channels": len(bands)}
    return deployment(inputs=(ModelInput(**one), ModelInput(**one | radar | changes)))


def test_two_inputs_are_read_of_one_stack(tmp_path: Path) -> None:
    described = ["VV", "VH", "BLUE", "GREEN", "RED"]
    scene = opened(tmp_path / "s.tif", two(), bands=5, descriptions=described)
    assert indexes(scene) == [5, 4, 3, 1, 2]
    with pytest.raises(
        ValueError, match=r"has no VV, VH.* 2 inputs \(image: RED, GREEN, BLUE; radar: VV, VH\): st"
    ):
        opened(tmp_path / "t.tif", two(), descriptions=RGB)


def test_two_inputs_that_share_a_band_name_whose_it_is(tmp_path: Path) -> None:
    held = ["radar.RED", "image.RED", "image.GREEN", "image.BLUE"]
    scene = opened(tmp_path / "s.tif", two(["RED"]), held, bands=4)
    assert indexes(scene) == [2, 3, 4, 1]


def test_two_inputs_of_other_times_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inputs have different time steps"):
        opened(tmp_path / "s.tif", two(frames=2), bands=5)


def test_band_files_that_do_not_lie_on_each_other_are_refused(tmp_path: Path) -> None:
    image = landscape(3, 16)
    for number, band in enumerate(RGB):
        corner = (4e5 + 1e4 * number, 5.8e6)
        write_raster(tmp_path / f"field_{band}.tif", image[number : number + 1], corner=corner)
    (found,) = find_scenes([str(path) for path in tmp_path.glob("*.tif")]).scenes
    with pytest.raises(ValueError, match="is a scene with band files that do not lie on each"):
        open_scene(found, deployment(bands=RGB))


def test_what_is_no_raster_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.tif").write_text("no raster")
    (files,) = find_scenes([str(tmp_path / "s.tif")]).scenes
    for record in (deployment(bands=RGB), deployment(bands=None)):
        with pytest.raises(ValueError, match="is not a raster that GDAL can read"):
            open_scene(files, record)
