"""Which bands labels mean: certain, or a question."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from terratorch_simpler.tiles.labels import band_positions
from tests.rasters import BANDS

RGB = BANDS[:3]


def positions(
    bands: Sequence[str],
    labels: Sequence[str | None],
    dataset_bands: Sequence[str] | None = None,
    where: str = "tile.tif",
) -> list[int]:
    found, _ = band_positions(bands, labels, dataset_bands, where, where.rpartition("/")[2])
    return found


def sensor(labels: Sequence[str | None], where: str, bands: Sequence[str] = RGB) -> str | None:
    return band_positions(bands, labels, None, where, where)[1]


def test_dataset_bands_go_before_descriptions() -> None:
    labels = ["RED", "GREEN", "BLUE"]
    assert positions(RGB, labels, RGB) == [0, 1, 2]
    assert positions(RGB, labels) == [2, 1, 0]
    terrain = ["slope", "aspect", "height"]
    assert positions(["height", "slope"], [None] * 3, terrain) == [2, 0]


def test_descriptions_are_used_where_any_is_known() -> None:
    assert positions(RGB, ["cloud mask", "B04", None, "B02", "B03"]) == [3, 4, 1]


def test_without_descriptions_the_number_must_match() -> None:
    assert positions(RGB, [None] * 3) == [0, 1, 2]
    assert positions(RGB, ["one", "two", "three"]) == [0, 1, 2]
    message = r"tile.tif holds 4 bands and 3 are asked for \(BLUE, GREEN, RED\): say with dataset"
    with pytest.raises(ValueError, match=message):
        positions(RGB, [None] * 4)


def test_dataset_bands_must_list_all_of_the_file() -> None:
    with pytest.raises(ValueError, match=r"tile.tif holds 4 bands, dataset_bands names 3"):
        positions(RGB, [None] * 4, RGB)


def test_a_band_that_is_not_there() -> None:
    message = r"tile.tif has no RED, SWIR_2: it holds BLUE, GREEN, \? \(say otherwise with"
    with pytest.raises(ValueError, match=message):
        positions([*RGB, "SWIR_2"], ["B02", "B03", None])


@pytest.mark.parametrize("asked", ["NIR_NARROW", "NIR_BROAD"])
def test_a_lone_nir_stands_for_either(asked: str) -> None:
    assert positions(["RED", asked], ["NIR", "RED"]) == [1, 0]


def test_narrow_and_broad_nir_are_not_mixed_up() -> None:
    with pytest.raises(ValueError, match=r"has no NIR_NARROW: it holds NIR_BROAD, RED"):
        positions(["RED", "NIR_NARROW"], ["NIR_BROAD", "RED"])
    assert positions(["NIR_NARROW"], ["NIR", "NIR_NARROW"]) == [1]


# Codes of sensors

OLI = ["B2", "B3", "B4", "B5", "B6", "B7"]
TM = ["B1", "B2", "B3", "B4", "B5", "B7"]
S2 = ["B2", "B3", "B4", "B8A", "B11", "B12"]
MODIS = [f"sur_refl_b0{i}" for i in range(1, 8)]


@pytest.mark.parametrize(
    ("where", "labels", "name"),
    [
        ("a/LC08_L2SP_193023_20200910_02_T1", [f"SR_{code}" for code in OLI], "Landsat 8-9"),
        ("a/LC09_L1TP_193023_20220910_02_T1", OLI, "Landsat 8-9"),
        ("a/LC81930242013132LGN00", OLI, "Landsat 8-9"),
        ("a/HLS.L30.T33UUU.2020234T100601.v2.0", [f"B0{i}" for i in range(2, 8)], "Landsat 8-9"),
        ("a/HLS.S30.T33UUU.2020234T100601.v2.0", ["B02", "B03", "B04", *S2[3:]], "Sentinel-2"),
        ("a/LT05_L1TP_193024_19900411_20200916_02_T1", TM, "Landsat 4-7"),
        ("a/LT51930241990211KIS00", TM, "Landsat 4-7"),
        ("a/LE71930242000211EDC00", TM, "Landsat 4-7"),
        ("a/MOD09A1.A2020001.h18v03.061.2020010223344", MODIS, "MODIS"),
        ("S2A_MSIL2A_20200821T100559_N0214.SAFE/a/tile_of_mine", S2, "Sentinel-2"),
        ("20200821T100559_20200821T101414_T33UUU/mine", S2, "Sentinel-2"),
        # The file says more than the folder that it is in.
        ("LC08_scenes/S2B_MSIL2A_mine", S2, "Sentinel-2"),
        # No product, but codes that only one sensor has.
        ("mine", S2, "Sentinel-2"),
        ("mine", ["B02", "B03", "B04", "B8A", "B11", "B12"], "Sentinel-2"),
        ("mine", MODIS, "MODIS"),
    ],
)
def test_the_sensor_is_certain(where: str, labels: list[str], name: str) -> None:
    assert sensor(labels, where, BANDS) == name
    found = positions(BANDS, labels, where=where)
    assert found == ([2, 3, 0, 1, 5, 6] if name == "MODIS" else list(range(6)))


def test_sensors_that_agree_need_not_be_told_apart() -> None:
    assert positions(RGB, ["B02", "B03", "B04"]) == [0, 1, 2]
    assert sensor(["B02", "B03", "B04"], "mine") == "Sentinel-2 or Landsat 8-9"


@pytest.mark.parametrize(
    ("labels", "bands"),
    [
        (["B1", "B2", "B3"], RGB),
        (["B2", "B3", "B4"], RGB),
        (OLI, BANDS),
        (["SR_B1", "SR_B2", "SR_B3", "SR_B4"], RGB),
        (["B2", "B3", "B4", "B8"], [*RGB, "NIR_BROAD"]),
    ],
)
def test_codes_of_several_sensors_are_a_question(labels: list[str], bands: list[str]) -> None:
    message = r"^a/mine does not say which sensor its bands .* are of \(as .*Landsat 4-7, .*\): say"
    with pytest.raises(ValueError, match=message):
        positions(bands, labels, where="a/mine")
    assert positions(bands, labels, bands + ["DEM"] * (len(labels) - len(bands)), "a/mine")


def test_the_question_shows_what_each_would_be() -> None:
    with pytest.raises(
        ValueError,
        match=r"B1, B2, B3 are of \(as Sentinel-2, COASTAL_AEROSOL, BLUE, GREEN; as Landsat 8-9, "
        r"COASTAL_AEROSOL, BLUE, GREEN; as Landsat 4-7, BLUE, GREEN, RED\): say with dataset_bands",
    ):
        positions(RGB, ["B1", "B2", "B3"])


def test_landsat_4_7_has_one_near_infrared() -> None:
    where = "LT05_L1TP_193024_19900411_20200916_02_T1"
    assert positions(["NIR_BROAD"], TM, where=where) == [3]
    with pytest.raises(ValueError, match="has no COASTAL_AEROSOL: it holds BLUE, GREEN, RED, NIR,"):
        positions(["COASTAL_AEROSOL"], TM, where=where)
