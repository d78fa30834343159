"""What a probe found: the score of every depth, and from which depth on it is good enough."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from terratorch_simpler.criteria import best_depth
from terratorch_simpler.results.shown import Shown

SHARE = 0.94
"""Share of a score that counts as reached: what SIMPLER's abstract reports."""
Reference = Literal["best", "full"]
LATER: dict[str, object] = {
    "reference": "full",
    "errors": None,
    "depth_shares": None,
    "depth_interval": None,
    "asked_share": None,
}
"""Fields that the first records lack, and what they mean without them."""


@dataclass(frozen=True)
class Scores:
    """Scores by layer, from 0 on.

    Attributes:
        metric: What the scores are; more is better.
        values: One a layer.
        others: Other metrics by name, likewise.
        penalties: The regularisation chosen, per observation.
        resamples: The values on resamples of the validation tiles, [resamples, layers]; None where
            there is nothing to resample.
    """

    metric: str
    values: list[float]
    others: dict[str, list[float]]
    penalties: list[float]
    resamples: NDArray[np.float64] | None = field(default=None, compare=False)


@dataclass(frozen=True, repr=False)
class Probe(Shown):
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
        errors: Standard error of the difference of each layer's score to that of the best depth,
            by layer, on the same validation tiles: 0 at the best depth. None where one validation
            tile left nothing to resample, and in records that do not say; so are the next two.
        depth_shares: Share of the resamples of the validation tiles that choose a depth by the same
            rule, for every depth that any chose.
        depth_interval: Depths between which 95 % of the resamples choose, both included.
        asked_share: Choose the smallest depth with this share of the best score; None: the smallest
            within one standard error of it.
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
    errors: dict[int, float] | None = None
    depth_shares: dict[int, float] | None = None
    depth_interval: tuple[int, int] | None = None
    asked_share: float | None = None

    def __post_init__(self) -> None:
        layers = list(range(len(self.scores)))
        columns = {self.metric: self.scores, **self.others, "penalties": self.penalties}
        columns |= {} if self.errors is None else {"errors": self.errors}
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
        if self.asked_share is not None:
            check_share(self.asked_share)
        self._check_resamples()

    def __repr__(self) -> str:
        within = self.within_error
        said = "" if within is None else f", within one standard error of it at {within}"
        return (
            f"Probe: {self.task} with {self.backbone}, best {self.metric} "
            f"{self.scores[self.best]:.3f} at depth {self.best} of {self.depth}{said}\n"
            f"  {self.train_tiles} training and {self.val_tiles} validation tiles; see .summary() "
            "and .plot()"
        )

    def _check_resamples(self) -> None:
        """Refuse errors, shares and an interval that do not go together."""
        if (
            len({part is None for part in (self.errors, self.depth_shares, self.depth_interval)})
            > 1
        ):
            raise ValueError("errors, depth_shares and depth_interval of a probe go together")
        if self.errors is None or self.depth_shares is None or self.depth_interval is None:
            return
        if min(self.errors.values()) < 0 or self.errors[self.best] != 0:
            raise ValueError(
                f"errors must be 0 at the best depth {self.best}, and none less: got {self.errors}"
            )
        shares, (low, high) = self.depth_shares, self.depth_interval
        depths = range(1, self.depth + 1)
        if not shares.keys() <= set(depths) or not math.isclose(sum(shares.values()), 1):
            raise ValueError(f"depth_shares must be of depths 1 to {self.depth}, got {shares}")
        if low > high or low not in depths or high not in depths:
            raise ValueError(f"depth_interval must be of depths 1 to {self.depth}, got {low, high}")

    @property
    def depth(self) -> int:
        """Number of blocks of the full backbone."""
        return len(self.scores) - 1

    @property
    def best(self) -> int:
        """Depth with the largest score, the smallest of equal ones: 1 or more."""
        return best_depth(self.of_depths)

    @property
    def of_depths(self) -> dict[int, float]:
        """The scores of depths 1 to the full one."""
        return {depth: score for depth, score in self.scores.items() if depth > 0}

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
        check_share(share)
        if self.whole <= 0:
            return None
        return first_with(self.of_depths, share * self.whole)

    def share(self, layer: int) -> float | None:
        """Share of the best score, or the full depth's, that a layer has; as :meth:`reaches`."""
        return self.scores[layer] / self.whole if self.whole > 0 else None

    @property
    def within_error(self) -> int | None:
        """The smallest depth whose score is within one standard error of the best: 1 or more.

        The rule of Breiman, Friedman, Olshen and Stone (1984, section 3.4.3). None where no errors
        are known.
        """
        if self.errors is None:
            return None
        return first_within_error(self.of_depths, self.errors)

    @property
    def said(self) -> int | None:
        """The depth that the labels choose: with the share asked for, or within one error.

        None where there is no share, or no error is known.
        """
        return self.within_error if self.asked_share is None else self.reaches(self.asked_share)

    def to_csv(self) -> str:
        """One row a layer, with a header; a share that there is not is empty."""
        text = io.StringIO()
        shares = {layer: self.share(layer) for layer in self.scores}
        columns: dict[str, Mapping[int, float | None]] = {
            self.metric: self.scores,
            f"share_of_{self.reference}": shares,
            **({} if self.errors is None else {"standard_error": self.errors}),
            **self.others,
            "penalty": self.penalties,
        }
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([column.replace(" ", "_") for column in ("layer", *columns)])
        for layer in self.scores:
            writer.writerow([layer, *(values[layer] for values in columns.values())])
        return text.getvalue()

    def to_json(self) -> str:
        """All of it as indented JSON, with what follows from the scores."""
        reached = {"best": self.best, "share": SHARE, "reached": self.reaches()}
        follows = {"depth": self.depth, **reached, "within_error": self.within_error}
        return json.dumps(asdict(self) | follows, indent=1) + "\n"


def first_with(scores: Mapping[int, float], enough: float) -> int:
    """The smallest depth with a score, which one of them has."""
    return next(depth for depth in sorted(scores) if scores[depth] >= enough)


def first_within_error(scores: Mapping[int, float], errors: Mapping[int, float]) -> int:
    """The smallest depth whose score is within its standard error of the best.

    Args:
        scores: By depth.
        errors: Standard error of the difference of each to the best: 0 at the best.
    """
    largest = max(scores.values())
    return next(depth for depth in sorted(scores) if scores[depth] >= largest - errors[depth])


def check_share(share: float) -> None:
    """Refuse a share of a score that is none.

    Raises:
        ValueError: If it is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
