"""Which files are one scene, and which are layers beside it."""

from __future__ import annotations

import pytest

from terratorch_simpler.tiles.products import find_scenes


def grouped(*files: str) -> dict[str, list[str]]:
    """Files of each scene by its name, the folder left out."""
    return {
        scene.name.removeprefix("/d/"): [file.removeprefix("/d/") for file in scene.files]
        for scene in find_scenes(sorted(f"/d/{file}" for file in files)).scenes
    }


def others(*files: str) -> list[str]:
    found = find_scenes(sorted(f"/d/{file}" for file in files)).others
    return [file.removeprefix("/d/") for file in found]


@pytest.mark.parametrize(
    ("files", "scene", "labels"),
    [
        (["T33UUU_20200821_B02.tif", "T33UUU_20200821_B8A.tif"], "T33UUU_20200821", "B02 B8A"),
        (["HLS.L30.v2.0.B02.tif", "HLS.L30.v2.0.B05.tif"], "HLS.L30.v2.0", "B02 B05"),
        (["LC08_T1_SR_B2.TIF", "LC08_T1_ST_B10.TIF"], "LC08_T1", "SR_B2 ST_B10"),
        (["LE07_T1_B6_VCID_1.TIF", "LE07_T1_B6_VCID_2.TIF"], "LE07_T1", "B6_VCID_1 B6_VCID_2"),
        (["MOD.sur_refl_b01.tif", "MOD.sur_refl_b02.tif"], "MOD", "sur_refl_b01 sur_refl_b02"),
        (["field_NIR_NARROW.tiff", "field_RED_EDGE_1.jp2"], "field", "NIR_NARROW RED_EDGE_1"),
        (["one/B02.tif", "one/B03.tif"], "one", "B02 B03"),
    ],
)  # fmt: skip
def test_files_of_one_scene(files: list[str], scene: str, labels: str) -> None:
    (found,) = find_scenes([f"/d/{file}" for file in files]).scenes
    assert (found.name, found.files) == (f"/d/{scene}", tuple(f"/d/{file}" for file in files))
    assert found.labels == tuple(labels.split())


@pytest.mark.parametrize("name", ["tile_0.tif", "B02.tif", "DEM.tif", "tileB02.tif", "a_B02_b.tif"])
def test_other_file_names_are_scenes_of_their_own(name: str) -> None:
    assert grouped(name, "another.tif") == {name: [name], "another.tif": ["another.tif"]}


def test_the_finest_of_a_band_is_taken() -> None:
    files = [f"x/R{metres}m/T_B02_{metres}m.jp2" for metres in (10, 20, 60)]
    files += ["x/R20m/T_B11_20m.jp2", "x/R60m/T_B11_60m.jp2", "x/R60m/T_B01_60m.jp2"]
    bands = ["x/R60m/T_B01_60m.jp2", "x/R10m/T_B02_10m.jp2", "x/R20m/T_B11_20m.jp2"]
    assert grouped(*files) == {"x/T": bands}
    assert others(*files) == sorted(set(files) - set(bands))


def test_what_lies_beside_the_bands_is_another_layer() -> None:
    bands = ["x_B02.tif", "x_B03.tif"]
    beside = ["x_NDVI.tif", "x_TCI.tif", "x_QA_PIXEL.tif", "x.angles.tif"]
    found = find_scenes(sorted(f"/d/{file}" for file in bands + beside))
    (scene,) = found.scenes
    assert scene.quality == {"QA_PIXEL": "/d/x_QA_PIXEL.tif"}
    assert found.others == [f"/d/{name}" for name in ("x.angles.tif", "x_NDVI.tif", "x_TCI.tif")]


def test_a_stack_beside_its_own_bands_stays_a_scene() -> None:
    assert grouped("x_1_B02.tif", "x_1_B03.tif", "x_1.tif", "x_10.tif") == {
        "x_1": ["x_1_B02.tif", "x_1_B03.tif"],
        "x_1.tif": ["x_1.tif"],
        "x_10.tif": ["x_10.tif"],
    }


def test_a_stack_with_a_quality_layer() -> None:
    found = find_scenes(["/d/x.tif", "/d/x_Fmask.tif", "/d/x_TCI.tif"])
    assert [(scene.name, dict(scene.quality)) for scene in found.scenes] == [
        ("/d/x.tif", {"Fmask": "/d/x_Fmask.tif"})
    ]
    assert found.others == ["/d/x_TCI.tif"]


def test_layers_of_no_scene_are_scenes() -> None:
    """Whether they can be read as one shows when they are opened."""
    assert grouped("x_SCL.tif", "y.tif") == {"x_SCL.tif": ["x_SCL.tif"], "y.tif": ["y.tif"]}
