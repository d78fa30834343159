"""Bands in TerraTorch's own words, and their statistics."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

BAND_WORDS = {
    *("COASTAL_AEROSOL", "BLUE", "GREEN", "RED", "RED_EDGE_1", "RED_EDGE_2", "RED_EDGE_3"),
    *("NIR", "NIR_BROAD", "NIR_NARROW", "WATER_VAPOR", "CIRRUS", "SWIR_1", "SWIR_2"),
    *("THERMAL_INFRARED_1", "THERMAL_INFRARED_2", "PANCHROMATIC", "VV", "VH", "DEM"),
}
"""Words that band descriptions and file names can hold."""


def band_word(label: str) -> str | None:
    """TerraTorch's word in a band label such as ``swir1`` or ``NIR_NARROW``, or None.

    ``NIR`` is a word where narrow and broad are not told apart.
    """
    text = re.sub(r"_[126]0M$", "", label.strip().upper().replace(" ", "_"))
    text = re.sub(r"(?<=[A-Z])(?=\d$)", "_", text) if text.startswith("SWIR") else text
    return text if text in BAND_WORDS else None


def band_names(bands: object) -> list[str] | None:
    """Bands of a config as plain names, enum members included; None if it is no list of them."""
    if not isinstance(bands, list | tuple):
        return None
    return [str(getattr(band, "value", band)) for band in bands]


def check_bands(bands: Sequence[str], dataset_bands: Sequence[str] | None) -> None:
    """Refuse band lists that cannot be right whatever the files hold.

    Raises:
        ValueError: If a list is empty or names a band twice, or a band is not in the dataset's.
    """
    for what, names in (("bands", bands), ("dataset_bands", dataset_bands)):
        if names is None:
            continue
        if not names:
            raise ValueError(f"{what} is empty: name the bands, in order")
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise ValueError(f"{what} names {', '.join(twice)} more than once")
    if dataset_bands is not None:
        unknown = [band for band in bands if band not in dataset_bands]
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)} not in dataset_bands: there are {', '.join(dataset_bands)}"
            )


def check_statistics(
    bands: Sequence[str] | None, means: Sequence[float] | None, stds: Sequence[float] | None
) -> None:
    """Refuse statistics that cannot normalise tiles.

    Args:
        bands: Bands of the tiles, if they are known.
        means: Mean of each band, or None.
        stds: Standard deviation of each band, or None.

    Raises:
        ValueError: If they are not one a band, not finite, or a deviation is not above 0.
    """
    for what, values in (("means", means), ("stds", stds)):
        if values is not None and bands is not None and len(values) != len(bands):
            raise ValueError(
                f"{what} has {len(values)} values for {len(bands)} bands: give one a band"
            )
        if values is not None and not all(map(math.isfinite, values)):
            raise ValueError(f"{what} must be finite numbers, got {list(values)}")
    if stds is not None and min(stds) <= 0:
        raise ValueError(f"stds must be above 0, got {min(stds)}")
