"""Which band a sensor's code means: B4 is red of Landsat 8 and near infrared of Landsat 5."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sensor:
    """A sensor, how its products are named, and what its band codes mean.

    Attributes:
        name: What it is called.
        product: Found in the names of files and folders that are certainly of this sensor.
        code: A band's code; its group is the number.
        bands: TerraTorch's words by that number.
    """

    name: str
    product: re.Pattern[str]
    code: re.Pattern[str]
    bands: Mapping[str, str]

    def word(self, label: str) -> str | None:
        """TerraTorch's word for a code of this sensor, or None if it is none."""
        match = self.code.fullmatch(label.strip().upper())
        return self.bands.get(match[1].lstrip("0")) if match else None


def _product(*patterns: str) -> re.Pattern[str]:
    """Matches where a name, or a part of it, begins like a product."""
    return re.compile(rf"(?:^|[_.-])(?:{'|'.join(patterns)})", re.IGNORECASE)


_COLORS = ("BLUE", "GREEN", "RED")

SENSORS = (
    Sensor(
        "Sentinel-2",
        _product(r"S2[A-D]_", r"T\d{2}[A-Z]{3}_\d{8}T\d{6}", r"\d{2}[A-Z]{3}_\d{8}_", r"HLS\.S30"),
        re.compile(r"B(0?[1-9]|1[0-2]|8A)(?:_[126]0M)?"),
        {
            "1": "COASTAL_AEROSOL",
            **dict(zip("234", _COLORS, strict=True)),
            "5": "RED_EDGE_1",
            "6": "RED_EDGE_2",
            "7": "RED_EDGE_3",
            "8": "NIR_BROAD",
            "8A": "NIR_NARROW",
            "9": "WATER_VAPOR",
            "10": "CIRRUS",
            "11": "SWIR_1",
            "12": "SWIR_2",
        },
    ),
    Sensor(
        "Landsat 8-9",
        _product(r"L[CO]0[89]_", r"L[CO]8\d{13}[A-Z]{3}\d{2}", r"HLS\.L30"),
        # HLS writes B02, and leaves the panchromatic band out.
        re.compile(r"(?:SR_|ST_)?B(0[1-79]|[1-9]|1[01])"),
        {
            "1": "COASTAL_AEROSOL",
            **dict(zip("234", _COLORS, strict=True)),
            "5": "NIR_NARROW",
            "6": "SWIR_1",
            "7": "SWIR_2",
            "8": "PANCHROMATIC",
            "9": "CIRRUS",
            "10": "THERMAL_INFRARED_1",
            "11": "THERMAL_INFRARED_2",
        },
    ),
    Sensor(
        "Landsat 4-7",
        _product(r"L[TE]0[4-7]_", r"L[TE][4-7]\d{13}[A-Z]{3}\d{2}"),
        re.compile(r"(?:SR_|ST_)?B([1-8])(?:_VCID_[12])?"),
        {
            **dict(zip("123", _COLORS, strict=True)),
            # Broad, and the only one: it stands for either.
            "4": "NIR",
            "5": "SWIR_1",
            "6": "THERMAL_INFRARED_1",
            "7": "SWIR_2",
            "8": "PANCHROMATIC",
        },
    ),
    Sensor(
        "MODIS",
        _product(r"M[OYC]D(?:09|43|13)[A-Z]\d"),
        re.compile(r"(?:SUR_REFL_B0|NADIR_REFLECTANCE_BAND)([1-7])"),
        {"1": "RED", "2": "NIR_NARROW", "3": "BLUE", "4": "GREEN", "6": "SWIR_1", "7": "SWIR_2"},
    ),
)


def sensors_named(where: str) -> list[Sensor]:
    """The sensor that the last part of a path names; if it names none, the part before, ..."""
    for part in reversed(where.split("/")):
        named = [sensor for sensor in SENSORS if sensor.product.search(part)]
        if named:
            return named
    return []
