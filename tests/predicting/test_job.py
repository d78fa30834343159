from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest

from terratorch_simpler.predicting.job import Job, MapSettings, plan_map
from terratorch_simpler.predicting.predict import make_map
from terratorch_simpler.predicting.session import OnnxModel
from terratorch_simpler.tiles.products import find_scenes
from tests.predicting.models import deployment, write_model
from tests.rasters import landscape, write_raster

RGB = ["BLUE", "GREEN", "RED"]


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    return OnnxModel(write_model(tmp_path / "m.onnx", deployment(bands=RGB)))


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "scene.tif", landscape(3, 150, 70))


def planned(
    model: OnnxModel, scene: Path | str, path: Path, settings: MapSettings | None = None
) -> Job:
    (files,) = find_scenes([str(scene)]).scenes
    return plan_map(model, files, path, settings or MapSettings())


def test_a_map_knows_what_it_is_made_of(model: OnnxModel, scene: Path, tmp_path: Path) -> None:
    job = planned(model, scene, tmp_path / "map.tif")
    assert not job.is_made()
    make_map(model, job)
    assert job.is_made()
    assert planned(model, scene, tmp_path / "map.tif").is_made()
    other = planned(model, scene, tmp_path / "map.tif", MapSettings(stride=20))
    assert not other.is_made()
    (tmp_path / "map.tif").write_text("no map")
    assert not job.is_made()


def test_a_crop_is_for_models_of_any_size(model: OnnxModel, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"crop is 64, but .* takes 32 x 32 px alone"):
        planned(model, scene, tmp_path / "map.tif", MapSettings(crop=64))
    assert planned(model, scene, tmp_path / "map.tif", MapSettings(crop=32)).tiling.rows.crop == 32
    record = deployment(bands=RGB, dynamic_size=True)
    free = OnnxModel(write_model(tmp_path / "free.onnx", record))
    assert planned(free, scene, tmp_path / "map.tif", MapSettings(crop=64)).tiling.rows.crop == 64


def test_a_batch_or_crop_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        MapSettings(batch_size=0)
    with pytest.raises(ValueError, match="crop must be at least 1 pixel, got 0"):
        MapSettings(crop=0)


def test_a_scene_in_an_archive_is_as_new_as_the_archive(
    model: OnnxModel, scene: Path, tmp_path: Path
) -> None:
    archive, inside = tmp_path / "scenes.zip", "scenes/a.tif"
    scene_in_it = f"/vsizip/{archive}/{inside}"

    def pack(more: bytes) -> str:
        with ZipFile(archive, "w") as file:
            file.write(scene, inside)
            file.writestr("more.txt", more)
        return planned(model, scene_in_it, tmp_path / "map.tif").digest

    first = pack(b"")
    job = planned(model, scene_in_it, tmp_path / "map.tif")
    assert [name for name, *_ in job.identity["files"]] == [f"scenes.zip/{inside}"]
    assert job.digest == first
    assert pack(b"another") != first
