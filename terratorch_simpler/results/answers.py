"""What fine-tuned models say of a few validation tiles, beside what their labels say."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

Kind = Literal["segmentation", "regression", "classification"]
Image = NDArray[np.uint8]
Values = NDArray[np.int64] | NDArray[np.float64]
ANSWERS = "answers.npz"
"""Name of their file, which lies beside a plan."""


@dataclass(frozen=True)
class Answers:
    """Images, labels and answers for the same tiles.

    Attributes:
        kind: What an answer is: a class a pixel, a number a pixel, or a class a tile.
        images: The tiles as RGB, [tiles, height, width, 3].
        labels: What is right: [tiles, height, width] (int64 classes, or float64 numbers), or
            [tiles] classes.
        counts: Where a label counts, of the same shape.
        models: By the name of the model, what it says; as ``labels``.
        classes: Names of the classes; empty where there are none.
    """

    kind: Kind
    images: Image
    labels: Values
    counts: NDArray[np.bool_]
    models: Mapping[str, Values]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"no kind of answers: {self.kind}")
        tiles, dense = self.labels.shape[0], self.kind != "classification"
        shape = (tiles, *self.images.shape[1:3]) if dense else (tiles,)
        wrong = [
            name
            for name, values in {
                "labels": self.labels,
                "counts": self.counts,
                **self.models,
            }.items()
            if values.shape != shape
        ]
        if wrong or self.images.shape != (tiles, *self.images.shape[1:3], 3):
            raise ValueError(
                f"images are {self.images.shape}, but of another shape are: {', '.join(wrong)}"
            )

    @classmethod
    def together(cls, parts: Sequence[Answers]) -> Answers:
        """Those of several models for the same tiles.

        Raises:
            ValueError: If they are of other tiles.
        """
        first = parts[0]
        if not all(np.array_equal(part.labels, first.labels) for part in parts):
            raise ValueError("the models were asked about other tiles")
        models = {name: said for part in parts for name, said in part.models.items()}
        return replace(first, models=models)

    def to_npz(self) -> bytes:
        """All of it as the bytes of a numpy file; the same for the same answers."""
        arrays: dict[str, Any] = {
            "kind": np.array(self.kind),
            "images": self.images,
            "labels": self.labels,
            "counts": self.counts,
            "names": np.array(list(self.models)),
            "classes": np.array(self.classes, dtype=np.str_),
        }
        arrays |= {f"model_{index}": said for index, said in enumerate(self.models.values())}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def read(cls, path: Path) -> Answers:
        """Read what :meth:`to_npz` gave.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is another file.
        """
        try:
            with np.load(path, allow_pickle=False) as held:
                names = [str(name) for name in held["names"]]
                return cls(
                    str(held["kind"]),  # type: ignore[arg-type]
                    held["images"],
                    held["labels"],
                    held["counts"],
                    {name: held[f"model_{index}"] for index, name in enumerate(names)},
                    tuple(str(name) for name in held["classes"]),
                )
        except (AttributeError, EOFError, KeyError, TypeError, ValueError, BadZipFile) as error:
            raise ValueError(
                f"{path} holds no answers of fine-tuned models ({error}): remove it to write the "
                "report without them"
            ) from error
