"""Where a scene holds the bands that are asked for: by their labels, or as the user says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from terratorch_simpler.bands import band_word
from terratorch_simpler.tiles.sensors import SENSORS, sensors_named

Words = list[str | None]


@dataclass(frozen=True)
class Reading:
    """What the labels of a raster's bands mean.

    Attributes:
        words: TerraTorch's word for each, or None.
        sensor: Whose codes they are; None where they are words, or nothing that is known.
    """

    words: Words
    sensor: str | None = None


def read_labels(labels: Sequence[str | None], where: str, wanted: Sequence[str]) -> Reading:
    """What band descriptions, or the band parts of file names, mean.

    A name of a product says which sensor it is. Where none does, each sensor that has all of the
    codes is possible, and they must agree on the bands that are asked for.

    Args:
        labels: One label a band.
        where: Path of the file, or of the scene, which can name a product.
        wanted: Bands that are asked for.

    Raises:
        ValueError: If they do not agree, with what the bands would be of each sensor.
    """
    words = [band_word(label) if label else None for label in labels]
    readings = {
        sensor.name: [sensor.word(label) if label else None for label in labels]
        for sensor in sensors_named(where) or SENSORS
    }
    codes = [any(found) for found in zip(*readings.values(), strict=True)]
    if not any(codes):
        return Reading(words)
    complete = {
        name: found
        for name, found in readings.items()
        if all(word for word, code in zip(found, codes, strict=True) if code)
    }
    possible = {
        name: [word or found for word, found in zip(words, meant, strict=True)]
        for name, meant in (complete or readings).items()
    }
    places = {tuple(find_band(found, band) for band in wanted) for found in possible.values()}
    if len(places) > 1:
        raise ValueError(_question(labels, possible, where))
    return Reading(next(iter(possible.values())), " or ".join(possible))


def find_band(words: Sequence[str | None], band: str) -> int | None:
    """Where a band is among others, or None. A lone ``NIR`` stands for the narrow and the broad."""
    if band in words:
        return words.index(band)
    if band in ("NIR_NARROW", "NIR_BROAD") and words.count("NIR") == 1:
        return words.index("NIR")
    return None


def band_positions(
    bands: Sequence[str],
    labels: Sequence[str | None],
    dataset_bands: Sequence[str] | None,
    where: str,
    name: str,
) -> tuple[list[int], str | None]:
    """Where a scene holds the bands that are asked for.

    ``dataset_bands`` says what it holds, in order. Without it, labels (band descriptions or file
    names) are used where any is known, and otherwise the scene must hold as many bands as asked.

    Args:
        bands: Bands asked for, in order.
        labels: One label a band of the scene, None where it has none.
        dataset_bands: What the scene holds, in order.
        where: Its path, which can name a product.
        name: What to call it.

    Returns:
        0-based position of each band; and whose codes told, or None.

    Raises:
        ValueError: If the numbers do not match, a band is not there, or the codes can be those of
            several sensors.
    """
    count = len(labels)
    if dataset_bands is not None:
        if len(dataset_bands) != count:
            raise ValueError(
                f"{name} holds {count} bands, dataset_bands names {len(dataset_bands)}: "
                "list what the files hold, in order"
            )
        return [list(dataset_bands).index(band) for band in bands], None
    reading = read_labels(labels, where, bands)
    if not any(reading.words):
        if count != len(bands):
            raise ValueError(
                f"{name} holds {count} bands and {len(bands)} are asked for "
                f"({', '.join(bands)}): say with dataset_bands what the files hold, in order"
            )
        return list(range(count)), None
    held = [word or label or "?" for word, label in zip(reading.words, labels, strict=True)]
    places = {band: find_band(held, band) for band in bands}
    missing = [band for band, place in places.items() if place is None]
    if missing:
        raise ValueError(
            f"{name} has no {', '.join(missing)}: it holds {', '.join(held)} (say otherwise with "
            "dataset_bands)"
        )
    return [place for place in places.values() if place is not None], reading.sensor


def _question(
    labels: Sequence[str | None], possible: Mapping[str, Sequence[str | None]], where: str
) -> str:
    readings = "; ".join(
        f"as {name}, {', '.join(word or '?' for word in words)}" for name, words in possible.items()
    )
    held = ", ".join(label or "?" for label in labels)
    return (
        f"{where} does not say which sensor its bands {held} are of ({readings}): say with "
        "dataset_bands what they hold, in this order"
    )
