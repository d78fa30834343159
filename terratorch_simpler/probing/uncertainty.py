"""How sure a probe is: standard errors between depths, and the depths that resamples choose."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terratorch_simpler.probing.resampling import Array


@dataclass(frozen=True)
class Uncertainty:
    """What resamples of the validation tiles say of a probe.

    Attributes:
        errors: Standard error of the paired difference of each layer to the best depth, by layer.
        shares: Share of the resamples that choose a depth, by depth.
        interval: Depths between which 95 % of the resamples choose, both included.
    """

    errors: dict[int, float]
    shares: dict[int, float]
    interval: tuple[int, int]


def uncertainty(resamples: Array, best: int, share: float | None = None) -> Uncertainty:
    """What resamples say of the choice of a depth.

    Args:
        resamples: Scores of each layer on resamples of the validation tiles, [resamples, layers].
        best: The best depth on all of them.
        share: Choose the smallest depth with this share of the best score; None: the smallest
            within one standard error of it.
    """
    between = paired_errors(resamples)
    depths = chosen_depths(resamples, between, share)
    counts = Counter(depths.tolist())
    low, high = np.quantile(depths, [0.025, 0.975], method="closest_observation").astype(int)
    return Uncertainty(
        errors=dict(enumerate(between[best].tolist())),
        shares={depth: counts[depth] / len(depths) for depth in sorted(counts)},
        interval=(int(low), int(high)),
    )


def paired_errors(resamples: Array) -> Array:
    """Standard error of the difference between any two layers on the same tiles.

    Args:
        resamples: As :func:`uncertainty`.

    Returns:
        [layers, layers], 0 on the diagonal.
    """
    differences = (resamples - resamples[:, [layer]] for layer in range(resamples.shape[1]))
    return np.stack([difference.std(0, ddof=1) for difference in differences])


def chosen_depths(resamples: Array, errors: Array, share: float | None) -> NDArray[np.intp]:
    """The depth that each resample chooses: 1 or more.

    Args:
        resamples: As :func:`uncertainty`.
        errors: As :func:`paired_errors` gives them.
        share: As there. A resample whose best score is not above 0 has no share: it chooses the
            best depth.
    """
    scores = resamples[:, 1:]
    best = scores.argmax(1)
    largest = scores.max(1, keepdims=True)
    if share is None:
        enough = scores >= largest - errors[1:, 1:][best]
    else:
        enough = scores >= np.where(largest > 0, share * largest, largest)
    return np.asarray(enough.argmax(1) + 1)
