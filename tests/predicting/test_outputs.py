from __future__ import annotations

from pathlib import Path

import pytest

from terratorch_simpler.predicting.outputs import find_maps
from tests.rasters import landscape, write_band_files, write_raster, write_tiles


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return write_tiles(tmp_path / "scenes", count=3, size=8)


def test_one_scene_becomes_the_file_that_is_named(scenes: Path, tmp_path: Path) -> None:
    (path,) = find_maps([str(scenes / "tile_0.tif")], str(tmp_path / "new" / "map.tif"))
    assert path == tmp_path / "new" / "map.tif"


def test_maps_in_a_folder_are_named_after_their_scenes(scenes: Path, tmp_path: Path) -> None:
    named = [str(scenes / "*_[01].tif"), str(scenes / "tile_1.tif"), str(scenes / "tile_2.tif")]
    maps = find_maps(named, str(tmp_path / "maps"))
    assert [path.name for path in maps] == ["tile_0.tif", "tile_1.tif", "tile_2.tif"]
    (path,) = find_maps([str(scenes / "tile_0.tif")], str(tmp_path / "maps"))
    assert path == tmp_path / "maps" / "tile_0.tif"


def test_band_files_are_one_scene(tmp_path: Path) -> None:
    image = landscape(2, 8)
    write_band_files(tmp_path, "field", {"BLUE": image[0], "RED": image[1]}, 8)
    ((path, scene),) = find_maps([str(tmp_path)], str(tmp_path / "maps")).items()
    assert path.name == "field.tif"
    assert scene.labels == ("BLUE", "RED")


def test_several_scenes_need_a_folder(scenes: Path) -> None:
    with pytest.raises(ValueError, match=r"3 scenes cannot become one map, map\.tif: name a"):
        find_maps([str(scenes)], "map.tif")


def test_two_maps_of_one_name_are_refused(scenes: Path, tmp_path: Path) -> None:
    other = write_raster(tmp_path / "other" / "tile_0.tif", landscape(6, 8))
    with pytest.raises(ValueError, match=r"would both become .*tile_0\.tif"):
        find_maps([str(scenes), str(other)], str(tmp_path / "maps"))


def test_a_map_never_takes_the_place_of_a_scene(scenes: Path) -> None:
    with pytest.raises(ValueError, match=r"tile_0\.tif would take the place of a scene"):
        find_maps([str(scenes)], str(scenes))


def test_scenes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such scene: nowhere\.tif"):
        find_maps(["nowhere.tif"], "map.tif")
    with pytest.raises(ValueError, match="no raster"):
        find_maps([str(tmp_path / "*.tif")], "map.tif")
