from __future__ import annotations

import pytest

from terratorch_simpler.bands import BAND_FILE, band_positions, band_word, check_bands

RGB = ["BLUE", "GREEN", "RED"]


@pytest.mark.parametrize(
    ("label", "file_name", "word"),
    [
        ("B02", "", "BLUE"),
        ("B2", "", "BLUE"),
        ("b02", "", "BLUE"),
        ("B8A", "", "NIR_NARROW"),
        ("B08", "", "NIR_BROAD"),
        ("B11", "HLS.S30.T33UUU.2020234T100601.v2.0.tif", "SWIR_1"),
        ("B05", "", "RED_EDGE_1"),
        ("B05", "HLS.L30.T33UUU.2020234T100601.v2.0.B05.tif", "NIR_NARROW"),
        ("B5", "LC08_L2SP_193023_20200910_02_T1_SR_B5.TIF", "NIR_NARROW"),
        ("B6", "LC09_L2SP_193023_20220910_02_T1_SR_B6.TIF", "SWIR_1"),
        ("B10", "LC08_L2SP_193023_20200910_02_T1_ST_B10.TIF", "THERMAL_INFRARED_1"),
        ("SWIR_2", "", "SWIR_2"),
        ("swir1", "", "SWIR_1"),
        ("SWIR 2", "", "SWIR_2"),
        (" red ", "", "RED"),
        ("Nir Narrow", "", "NIR_NARROW"),
        ("nir", "", "NIR"),
        ("VV", "", "VV"),
        ("B13", "", None),
        ("Gray", "", None),
        ("", "", None),
    ],
)
def test_labels_become_terratorchs_words(label: str, file_name: str, word: str | None) -> None:
    assert band_word(label, file_name) == word


@pytest.mark.parametrize(
    ("name", "scene", "band"),
    [
        ("T33UUU_20200821T100559_B8A.tif", "T33UUU_20200821T100559", "B8A"),
        ("HLS.L30.T33UUU.2020234T100601.v2.0.B05.tif", "HLS.L30.T33UUU.2020234T100601.v2.0", "B05"),
        ("LC08_L2SP_193023_SR_B2.TIF", "LC08_L2SP_193023_SR", "B2"),
        ("field_NIR_NARROW.tiff", "field", "NIR_NARROW"),
        ("field_SWIR_1.jp2", "field", "SWIR_1"),
    ],
)
def test_file_names_end_in_their_band(name: str, scene: str, band: str) -> None:
    match = BAND_FILE.fullmatch(name)
    assert match is not None
    assert (match["scene"], match["band"]) == (scene, band)


@pytest.mark.parametrize(
    "name", ["tile_0.tif", "B02.tif", "BLUE.tif", "tileB02.tif", "a_B02_b.tif"]
)
def test_other_file_names_are_scenes_of_their_own(name: str) -> None:
    assert BAND_FILE.fullmatch(name) is None


@pytest.mark.parametrize(
    ("bands", "dataset_bands", "message"),
    [
        ([], None, "bands is empty"),
        (RGB, [], "dataset_bands is empty"),
        (["RED", "BLUE", "RED"], None, "bands names RED more than once"),
        (RGB, ["BLUE", "GREEN", "GREEN", "RED"], "dataset_bands names GREEN more than once"),
        (["RED", "SWIR_1"], RGB, "SWIR_1 not in dataset_bands: there are BLUE, GREEN, RED"),
    ],
)
def test_band_lists_that_cannot_be_right(
    bands: list[str], dataset_bands: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_bands(bands, dataset_bands)


def test_any_words_will_do_where_both_lists_use_them() -> None:
    check_bands(["height", "slope"], ["slope", "aspect", "height"])
    found = band_positions(
        ["height", "slope"], [None, None, None], ["slope", "aspect", "height"], "dem.tif"
    )
    assert found == [2, 0]


def test_dataset_bands_go_before_descriptions() -> None:
    labels = ["RED", "GREEN", "BLUE"]
    assert band_positions(RGB, labels, RGB, "tile.tif") == [0, 1, 2]
    assert band_positions(RGB, labels, None, "tile.tif") == [2, 1, 0]


def test_descriptions_are_used_where_any_is_known() -> None:
    labels = ["cloud mask", "B04", None, "B02", "B03"]
    assert band_positions(RGB, labels, None, "tile.tif") == [3, 4, 1]


def test_without_descriptions_the_number_must_match() -> None:
    assert band_positions(RGB, [None] * 3, None, "tile.tif") == [0, 1, 2]
    assert band_positions(RGB, ["one", "two", "three"], None, "tile.tif") == [0, 1, 2]
    message = r"tile.tif holds 4 bands and 3 are asked for \(BLUE, GREEN, RED\): say with dataset"
    with pytest.raises(ValueError, match=message):
        band_positions(RGB, [None] * 4, None, "tile.tif")


def test_dataset_bands_must_list_all_of_the_file() -> None:
    with pytest.raises(ValueError, match=r"tile.tif holds 4 bands, dataset_bands names 3"):
        band_positions(RGB, [None] * 4, RGB, "tile.tif")


def test_a_band_that_is_not_there() -> None:
    message = r"tile.tif has no RED, SWIR_2: it holds BLUE, GREEN, \? \(say otherwise with"
    with pytest.raises(ValueError, match=message):
        band_positions([*RGB, "SWIR_2"], ["B02", "B03", None], None, "tile.tif")


@pytest.mark.parametrize("asked", ["NIR_NARROW", "NIR_BROAD"])
def test_a_lone_nir_stands_for_either(asked: str) -> None:
    assert band_positions(["RED", asked], ["NIR", "RED"], None, "tile.tif") == [1, 0]


def test_narrow_and_broad_nir_are_not_mixed_up() -> None:
    labels = ["NIR_BROAD", "RED"]
    with pytest.raises(ValueError, match=r"has no NIR_NARROW: it holds NIR_BROAD, RED"):
        band_positions(["RED", "NIR_NARROW"], labels, None, "tile.tif")
    assert band_positions(["NIR_NARROW"], ["NIR", "NIR_NARROW"], None, "tile.tif") == [1]


def test_landsat_numbers_its_bands_otherwise() -> None:
    codes = ["B2", "B3", "B4", "B5", "B6", "B7"]
    prithvi = [*RGB, "NIR_NARROW", "SWIR_1", "SWIR_2"]
    assert band_positions(prithvi, codes, None, "LC08_x_SR.TIF") == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="has no NIR_NARROW, SWIR_1, SWIR_2"):
        band_positions(prithvi, codes, None, "S2A_x.TIF")
