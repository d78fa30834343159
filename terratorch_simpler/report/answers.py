"""What fine-tuned models say of some tiles, as rows of pictures or words for the page."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb
from matplotlib.image import imsave
from numpy.typing import NDArray

from terratorch_simpler.report.pictures import uri
from terratorch_simpler.results.answers import Answers, Image, Kind, Values

PALETTE = (
    "#009e73",
    "#e69f00",
    "#56b4e9",
    "#d55e00",
    "#f0e442",
    "#0072b2",
    "#cc79a7",
    "#000000",
)
"""Of Okabe and Ito: told apart without red and green as well."""
NOTHING = "#b8b8b8"
"""Colour of pixels without a label."""
MARKS = 5
"""Values that the scale of numbers is labelled with."""


@dataclass(frozen=True)
class Answer:
    """One answer: a picture of it or, of a class for the whole tile, words alone.

    Attributes:
        alt: What the picture is.
        picture: Its address; None where there is none.
        words: What stands below it.
    """

    alt: str
    picture: str | None
    words: str


@dataclass(frozen=True)
class AnswersView:
    """The answers as the page shows them.

    Attributes:
        columns: What stands above each column.
        rows: One a tile.
        legend: Colours and what they are.
        how: How to read it.
    """

    columns: list[str]
    rows: list[list[Answer]]
    legend: list[tuple[str, str]]
    how: str


def answers_view(answers: Answers) -> AnswersView:
    """Lay out answers: a row a tile, with its image, its label and what each model says."""
    draw, legend, how = LAYOUTS[answers.kind](answers)
    rows = []
    for tile in range(len(answers.images)):
        where = f"validation tile {tile + 1}"
        row = [Answer(f"{where}: image", _png(answers.images[tile]), "")]
        for name, values in {"label": answers.labels, **answers.models}.items():
            drawn = answers.counts[tile] if name == "label" else np.isfinite(values[tile])
            picture = None if draw is None else draw(values[tile], drawn)
            words = _said(answers, tile, values, name == "label")
            row.append(Answer(f"{where}: {name}", picture, words))
        rows.append(row)
    return AnswersView(["image", "label", *answers.models], rows, legend, how)


Draw = Callable[[Values, NDArray[np.bool_]], str] | None
Layout = tuple[Draw, list[tuple[str, str]], str]


def _classes(answers: Answers) -> Layout:
    """A colour a class."""
    shown = [answers.labels[answers.counts], *(said.ravel() for said in answers.models.values())]
    there = np.unique(np.concatenate(shown)).astype(int).tolist()
    count = max(*there, len(answers.classes) - 1, 0) + 1
    colors = _palette(count)
    table = np.array([_bytes(color) for color in colors], np.uint8)

    def draw(values: Values, drawn: NDArray[np.bool_]) -> str:
        image = table[np.where(drawn, values, 0).astype(int)]
        image[~drawn] = _bytes(NOTHING)
        return _png(image)

    legend = [(colors[index], _name(answers, index)) for index in there]
    if not answers.counts.all():
        legend.append((NOTHING, "no label"))
    how = "Below each answer stands the share of labelled pixels that it has right."
    return draw, legend, how


def _numbers(answers: Answers) -> Layout:
    """One scale of colours for labels and answers."""
    shown = [answers.labels[answers.counts], *(said.ravel() for said in answers.models.values())]
    values = np.concatenate(shown)
    low, high = float(values.min()), float(values.max())
    colors = colormaps["cividis"]

    def draw(values: Values, drawn: NDArray[np.bool_]) -> str:
        part = (np.where(drawn, values, low) - low) / (high - low or 1.0)
        image = colors(part, bytes=True)[..., :3]
        image[~drawn] = _bytes(NOTHING)
        return _png(image)

    steps = np.linspace(0, 1, MARKS)
    legend = [(to_hex(colors(step)), f"{low + step * (high - low):.4g}") for step in steps]
    how = (
        "One scale of colours for all, in the units of the labels. Below each answer stands the "
        "root of its mean squared error."
    )
    return draw, legend, how


def _words(answers: Answers) -> Layout:
    del answers
    return None, [], "Each model names a class for the whole tile."


LAYOUTS: dict[Kind, Callable[[Answers], Layout]] = {
    "segmentation": _classes,
    "regression": _numbers,
    "classification": _words,
}


def _said(answers: Answers, tile: int, values: Values, is_label: bool) -> str:
    """What stands below an answer."""
    counts, label = answers.counts[tile], answers.labels[tile]
    if answers.kind == "classification":
        if is_label and not counts:
            return "no label"
        name = _name(answers, int(values[tile]))
        if is_label or not counts:
            return name
        return f"{name}, {'right' if values[tile] == label else 'wrong'}"
    if is_label or not counts.any():
        return ""
    if answers.kind == "segmentation":
        return f"{(values[tile] == label)[counts].mean():.0%} right"
    return f"error {np.sqrt(np.square(values[tile] - label)[counts].mean()):.4g}"


def _name(answers: Answers, index: int) -> str:
    return answers.classes[index] if index < len(answers.classes) else f"class {index}"


def _bytes(color: str) -> list[int]:
    return [round(255 * part) for part in to_rgb(color)]


def _palette(count: int) -> list[str]:
    """Colours for classes; of more than there are good ones, from dark to bright."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    return [to_hex(colormaps["viridis"](index / (count - 1))) for index in range(count)]


def _png(image: Image) -> str:
    """A picture as an address, each value a pixel of its own; the same for the same image."""
    buffer = io.BytesIO()
    imsave(buffer, image, format="png", metadata={"Software": None})  # type: ignore[dict-item]
    return uri(buffer.getvalue())
