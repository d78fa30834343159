"""What a probe found: the score of every depth, and from which depth on it is good enough."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass

SHARE = 0.94
"""Share of the full depth's score that counts as reached: what SIMPLER's abstract reports."""


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

    @property
    def depth(self) -> int:
        """Number of blocks of the full backbone."""
        return len(self.scores) - 1

    @property
    def full(self) -> float:
        """Score of the full depth."""
        return self.scores[self.depth]

    @property
    def best(self) -> int:
        """Depth with the largest score, the smallest of equal ones: 1 or more."""
        return max(range(1, self.depth + 1), key=lambda depth: (self.scores[depth], -depth))

    def reaches(self, share: float = SHARE) -> int | None:
        """The smallest depth that has a share of the full depth's score.

        Args:
            share: Above 0, at most 1.

        Returns:
            1 or more; None where the full depth's score is not above 0, as with an R2 of a fit that
            is worse than the mean: there is nothing to have a share of.

        Raises:
            ValueError: If the share is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {share}")
        if self.full <= 0:
            return None
        return next(d for d in range(1, self.depth + 1) if self.scores[d] >= share * self.full)

    def share(self, layer: int) -> float | None:
        """Share of the full depth's score that a layer has; None as in :meth:`reaches`."""
        return self.scores[layer] / self.full if self.full > 0 else None

    def to_csv(self) -> str:
        """One row a layer, with a header; a share that there is not is empty."""
        text = io.StringIO()
        columns = ("layer", self.metric, "share_of_full", *self.others, "penalty")
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
