"""The rows of the kit: which there are, and the config of each, which ``terratorch fit -c`` takes.

``python -m studies.paper.rows`` lists them, ``--row ROW --data DATA`` prints the config of one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from textwrap import indent
from typing import Any

import yaml

CONFIGS = Path(__file__).parents[2] / "configs" / "paper"
Entry = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A model on a data set, at full depth and cut.

    Attributes:
        dataset: A data set of ``configs/paper/rows.yaml``.
        model: A model of ``configs/paper/models.yaml``.
    """

    dataset: str
    model: str

    @property
    def name(self) -> str:
        """What the row is asked for by."""
        return f"{self.dataset}-{self.model}"

    @property
    def metric(self) -> str:
        """Name of the metric that it is judged by, as TerraTorch logs it."""
        return str(datasets()[self.dataset]["metric"])

    @property
    def depth(self) -> int:
        """Blocks of the full model."""
        return int(models()[self.model]["depth"])


def datasets() -> dict[str, Entry]:
    """The entries of ``rows.yaml``."""
    entries: dict[str, Entry] = yaml.safe_load((CONFIGS / "rows.yaml").read_text())
    return entries


def models() -> dict[str, Entry]:
    """The entries of ``models.yaml``."""
    entries: dict[str, Entry] = yaml.safe_load((CONFIGS / "models.yaml").read_text())["models"]
    return entries


def rows() -> list[Row]:
    """All rows, data set by data set."""
    return [Row(name, model) for name, entry in datasets().items() for model in entry["models"]]


def row_of(name: str) -> Row:
    """A row by its name.

    Raises:
        ValueError: If there is none of it.
    """
    for row in rows():
        if row.name == name:
            return row
    raise ValueError(f"no row {name}: there are {', '.join(row.name for row in rows())}")


def compose(row: Row, data: Path, *, pretrained: bool = True, seed: int = 0) -> str:
    """The config of a row at full depth, as text.

    Args:
        row: Which.
        data: Folder of the data sets.
        pretrained: Whether TerraTorch loads the official weights from their hub.
        seed: Of the head's weights, the order of the images and their turns.
    """
    dataset, model = datasets()[row.dataset], models()[row.model]
    statistics = model["statistics"]
    bands = [band for band in dataset["bands"] if band in statistics]
    values = {
        "bands": bands,
        "means": [statistics[band][0] for band in bands],
        "stds": [statistics[band][1] for band in bands],
        "quarters": [row.depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)],
        "cls_token": model["cls_token"],
        "frames": dataset["frames"],
        "tokens_in_time": dataset["frames"] if model["axis_of_time"] else 1,
        "pretrained": pretrained,
        "seed": seed,
    }
    # JSON is YAML on one line.
    filled = {key: json.dumps(value) for key, value in values.items()} | {"data": str(data)}
    temporal = model["temporal"] if dataset["frames"] > 1 else {}
    filled["backbone"] = Template(_arguments(model["model_args"] | temporal)).substitute(filled)
    text = Template((CONFIGS / f"{row.dataset}.yaml").read_text()).substitute(filled)
    return f"# {row.name}\n{text}"


def _arguments(arguments: Entry) -> str:
    """Arguments as they stand after ``backbone: ``, which the config has."""
    lines = yaml.safe_dump(arguments, sort_keys=False)
    return indent(lines, " " * 6).strip().removeprefix("backbone: ")


def main(row: str | None = None, data: Path = Path("data")) -> None:
    """List the rows, or print the config of one.

    Args:
        row: The row whose config is wanted.
        data: Folder of the data sets.
    """
    if row is None:
        print("\n".join(row.name for row in rows()))
    else:
        print(compose(row_of(row), data), end="")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main, as_positional=False)
