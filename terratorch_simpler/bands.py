"""Bands in TerraTorch's own words, and which of a raster's bands they are."""

from __future__ import annotations

import re
from collections.abc import Sequence

SENTINEL_2 = {
    "B01": "COASTAL_AEROSOL",
    "B02": "BLUE",
    "B03": "GREEN",
    "B04": "RED",
    "B05": "RED_EDGE_1",
    "B06": "RED_EDGE_2",
    "B07": "RED_EDGE_3",
    "B08": "NIR_BROAD",
    "B8A": "NIR_NARROW",
    "B09": "WATER_VAPOR",
    "B10": "CIRRUS",
    "B11": "SWIR_1",
    "B12": "SWIR_2",
}
LANDSAT_8 = {
    "B01": "COASTAL_AEROSOL",
    "B02": "BLUE",
    "B03": "GREEN",
    "B04": "RED",
    "B05": "NIR_NARROW",
    "B06": "SWIR_1",
    "B07": "SWIR_2",
    "B09": "CIRRUS",
    "B10": "THERMAL_INFRARED_1",
    "B11": "THERMAL_INFRARED_2",
}
_LANDSAT_NAME = re.compile(r"HLS\.L30|L[CO]0[89]")
_WORDS = {*SENTINEL_2.values(), *LANDSAT_8.values(), "VV", "VH", "DEM"}
_NIR = ("NIR_NARROW", "NIR_BROAD")

BAND_FILE = re.compile(
    rf"(?P<scene>.+)[_.](?P<band>(?:B\d{{1,2}}|B8A|{'|'.join(sorted(_WORDS))})(?:_[126]0m)?)"
    r"\.[A-Za-z0-9]+"
)
"""Name of a file with one band of a scene: ``x_B02.tif``, ``x_B02_10m.jp2``, ``x_BLUE.tif``."""


def band_word(label: str, file_name: str = "") -> str | None:
    """TerraTorch's word for a band label such as ``B8A``, ``swir1`` or ``NIR_NARROW``.

    Args:
        label: A band description or the band part of a file name.
        file_name: The file it belongs to; Landsat 8 and 9 number their bands differently.

    Returns:
        The word, ``NIR`` where narrow and broad are not told apart, or None.
    """
    text = label.strip().upper().replace(" ", "_")
    text = re.sub(r"_[126]0M$", "", text)
    code = re.fullmatch(r"B(\d{1,2})", text)
    text = f"B{int(code[1]):02d}" if code else text
    table = LANDSAT_8 if _LANDSAT_NAME.search(file_name) else SENTINEL_2
    text = re.sub(r"(?<=[A-Z])(?=\d$)", "_", text) if text.startswith("SWIR") else text
    return table.get(text) or (text if text in _WORDS or text == "NIR" else None)


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


def band_positions(
    bands: Sequence[str],
    labels: Sequence[str | None],
    dataset_bands: Sequence[str] | None,
    source: str,
) -> list[int]:
    """Where a raster holds the bands that are asked for.

    ``dataset_bands`` says what it holds, in order. Without it, labels (band descriptions or file
    names) are used where any is known, and otherwise the raster must hold as many bands as asked.

    Args:
        bands: Bands asked for, in order.
        labels: One label a band of the raster, None where it has none.
        dataset_bands: What the raster holds, in order.
        source: Name of the raster, for messages.

    Returns:
        0-based position of each band.

    Raises:
        ValueError: If the numbers do not match or a band is not there.
    """
    count = len(labels)
    if dataset_bands is not None:
        if len(dataset_bands) != count:
            raise ValueError(
                f"{source} holds {count} bands, dataset_bands names {len(dataset_bands)}: "
                "list what the files hold, in order"
            )
        return [list(dataset_bands).index(band) for band in bands]
    words = [band_word(label, source) if label else None for label in labels]
    if not any(words):
        if count != len(bands):
            raise ValueError(
                f"{source} holds {count} bands and {len(bands)} are asked for "
                f"({', '.join(bands)}): say with dataset_bands what the files hold, in order"
            )
        return list(range(count))
    held = [word or label for word, label in zip(words, labels, strict=True)]
    # A lone "NIR" is whichever of the two the backbone reads.
    stand_in = held.index("NIR") if held.count("NIR") == 1 else None
    positions = [
        held.index(band) if band in held else (stand_in if band in _NIR else None) for band in bands
    ]
    missing = [band for band, place in zip(bands, positions, strict=True) if place is None]
    if missing:
        raise ValueError(
            f"{source} has no {', '.join(missing)}: it holds "
            f"{', '.join(str(name or '?') for name in held)} (say otherwise with dataset_bands)"
        )
    return [place for place in positions if place is not None]
