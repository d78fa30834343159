from __future__ import annotations

import pytest

from terratorch_simpler.bands import band_word, check_bands

RGB = ["BLUE", "GREEN", "RED"]


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("SWIR_2", "SWIR_2"),
        ("swir1", "SWIR_1"),
        ("SWIR 2", "SWIR_2"),
        (" red ", "RED"),
        ("Nir Narrow", "NIR_NARROW"),
        ("nir", "NIR"),
        ("VV", "VV"),
        ("B02", None),
        ("Gray", None),
        ("", None),
    ],
)
def test_labels_become_terratorchs_words(label: str, word: str | None) -> None:
    assert band_word(label) == word


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
