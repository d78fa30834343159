"""What a probe found: the score of every depth, and from which depth on it is good enough."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass
from typing import Literal, get_args

SHARE = 0.94
"""Share of a score that counts as reached: what SIMPLER's abstract reports."""
Reference = Literal["best", "full"]
LATER = {"reference": "full"}
"""Fields that the first records lack, and what they mean without them."""


@dataclass(frozen=True)
class Scores:
    """Scores by layer, from 0 on.

    Attributes:
        metric: What the scores are; more is better.
        values: One a layer.
        others: Other metrics by name, likewise.
        penalties: The regularisation chosen, per observation.
    """

    metric: str
    values: list[float]
    others: dict[str, list[float]]
    penalties: list[float]


@dataclass(frozen=True)
class Probe:
    """What each depth offers on labelled tiles, with frozen weights.

    Attributes:
        backbone: Registry name or class of the backbone.
        task: ``segmentation``, ``regression``, ``classification`` or ``multilabel``.
        metric: What the scores are: ``mIoU``, ``R2``, ``accuracy`` or ``average precision``, on the
            validation tiles. More is better.
        scores: Score of each layer: 0 is the input of the first block, l the output of block l.
        others: Other metrics by name, likewise.
        penalties: Regularisation that was chosen for each layer, per observation.
        train_tiles: Tiles that the ridges were fitted on.
        val_tiles: Tiles that they were scored on.
        chosen: Depth that a plan chose without labels, if one was given and it keeps the first
            blocks.
        reference: What a share is a share of: the ``best`` score of any depth; or that of the
            ``full`` depth, as in records that do not say.
    """

    backbone: str
    task: str
    metric: str
    scores: dict[int, float]
    others: dict[str, dict[int, float]]
    penalties: dict[int, float]
    train_tiles: int
    val_tiles: int
    chosen: int | None = None
    reference: Reference = "full"

    def __post_init__(self) -> None:
        layers = list(range(len(self.scores)))
        columns = {self.metric: self.scores, **self.others, "penalties": self.penalties}
        for name, values in columns.items():
            if len(layers) < 2 or sorted(values) != layers:
                raise ValueError(
                    f"a probe needs {name} of layers 0 to the last, got {list(values)}"
                )
            if not all(math.isfinite(value) for value in values.values()):
                raise ValueError(f"the probe's {name} must be finite, got {values}")
        if self.chosen is not None and not 1 <= self.chosen <= self.depth:
            raise ValueError(f"chosen must be 1 to {self.depth}, got {self.chosen}")
        if self.reference not in get_args(Reference):
            raise ValueError(
                f"reference must be one of {', '.join(get_args(Reference))}, got {self.reference!r}"
            )

    @property
    def depth(self) -> int:
        """Number of blocks of the full backbone."""
        return len(self.scores) - 1

    @property
    def best(self) -> int:
        """Depth with the largest score, the smallest of equal ones: 1 or more."""
        return max(range(1, self.depth + 1), key=lambda depth: (self.scores[depth], -depth))

    @property
    def full(self) -> float:
        """Score of the full depth."""
        return self.scores[self.depth]

    @property
    def whole(self) -> float:
        """The score that shares are taken of, as :attr:`reference` says."""
        return self.scores[self.best] if self.reference == "best" else self.full

    def reaches(self, share: float = SHARE) -> int | None:
        """The smallest depth that has a share of the best score.

        Of the full depth's, where that is the :attr:`reference`.

        Args:
            share: Above 0, at most 1.

        Returns:
            1 or more; None where that score is not above 0, as with an R2 of a fit that is worse
            than the mean: there is nothing to have a share of.

        Raises:
            ValueError: If the share is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {share}")
        if self.whole <= 0:
            return None
        return next(d for d in range(1, self.depth + 1) if self.scores[d] >= share * self.whole)

    def share(self, layer: int) -> float | None:
        """Share of the best score, or the full depth's, that a layer has; as :meth:`reaches`."""
        return self.scores[layer] / self.whole if self.whole > 0 else None

    def to_csv(self) -> str:
        """One row a layer, with a header; a share that there is not is empty."""
        text = io.StringIO()
        columns = ("layer", self.metric, f"share_of_{self.reference}", *self.others, "penalty")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([column.replace(" ", "_") for column in columns])
        for layer, score in self.scores.items():
            others = [values[layer] for values in self.others.values()]
            writer.writerow([layer, score, self.share(layer), *others, self.penalties[layer]])
        return text.getvalue()

    def to_json(self) -> str:
        """All of it as indented JSON, with what follows from the scores."""
        reached = {"best": self.best, "share": SHARE, "reached": self.reaches()}
        return json.dumps(asdict(self) | {"depth": self.depth} | reached, indent=1) + "\n"
