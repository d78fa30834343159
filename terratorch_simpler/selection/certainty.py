"""How sure a choice of depth is: resampled groups, and when enough tiles were seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray

from terratorch_simpler.criteria import CRITERIA, SETTLED, SIMILARITY
from terratorch_simpler.similarity import normalise_hsic

RESAMPLES = 1000
MIN_GROUPS = 6
"""Fewer groups say too little of how much they differ: stated shares came out too high."""
FIRST_STOP = 8
"""Groups before sampling may stop; then after 2, 4, 8, ... times as many."""
WORTH_WAITING = 100
"""More tiles than this many times those seen are not worth naming."""


@dataclass(frozen=True)
class Certainty:
    """What resampling the groups says of a choice.

    Attributes:
        shares: Share of the resamples that choose each depth, by depth; empty for fewer than six
            groups.
        interval: Depths between which 95 % of the resamples lie, both included; None likewise.
        times_more: How many times as many tiles are likely to settle the choice between the two
            depths that are chosen most; None where it is settled, or more than 100.
    """

    shares: dict[int, float]
    interval: tuple[int, int] | None = None
    times_more: float | None = None


def cka(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """CKA from summed HSIC terms of shape [..., L + 1, L + 1], rounded to six decimals.

    The decision is taken on what the plan shows, so that it can be recomputed from the plan and
    does not depend on the last bits of a machine's arithmetic.
    """
    similarity = normalise_hsic(torch.from_numpy(terms)).numpy()
    rounded: NDArray[np.float64] = np.round((similarity + similarity.swapaxes(-1, -2)) / 2, 6)
    return rounded


def summary(values: NDArray[np.float64], reads: str) -> NDArray[np.float64]:
    """What a criterion reads, from its values of every group.

    Args:
        values: HSIC terms [groups, L + 1, L + 1], or a statistic of every layer [groups, L + 1].
        reads: ``similarity``, or the name of the statistic.

    Returns:
        CKA [L + 1, L + 1], or the mean of the statistic over groups [L + 1], to six decimals.
    """
    return cka(values.sum(axis=0)) if reads == SIMILARITY else np.round(values.mean(axis=0), 6)


def resample(
    values: NDArray[np.float64], seed: int, reads: str = SIMILARITY
) -> NDArray[np.float64]:
    """As :func:`summary`, of resamples of the groups: a bootstrap over tiles.

    Groups hold disjoint tiles.

    Each resample draws g - 3 of the g groups. Drawing g would give a mean of them the variance
    (g - 1) / g * s^2 / g; drawing g - 3 gives it that of Student's t, (g - 1) / (g - 3) * s^2 / g,
    since the spread s is itself estimated from few groups.

    Args:
        values: As :func:`summary`, of at least four groups.
        seed: Seed of the draws.
        reads: As :func:`summary`.

    Returns:
        [RESAMPLES, L + 1, L + 1], or [RESAMPLES, L + 1].
    """
    groups = len(values)
    draws = np.random.default_rng(seed).multinomial(groups - 3, [1 / groups] * groups, RESAMPLES)
    sums = np.tensordot(draws.astype(np.float64), values, axes=1)
    return cka(sums) if reads == SIMILARITY else np.round(sums / (groups - 3), 6)


def assess(values: NDArray[np.float64], criterion: str, seed: int) -> Certainty:
    """Resample the groups and say how sure the choice of a criterion is.

    Args:
        values: What it reads of every group, as :func:`summary` takes it.
        criterion: One of :data:`CRITERIA`.
        seed: Seed of the resampling.
    """
    if len(values) < MIN_GROUPS:
        return Certainty({})
    rule = CRITERIA[criterion]
    resamples = resample(values, seed, rule.reads)
    depths = rule.depths(resamples)
    counts = Counter(depths.tolist())
    shares = {depth: counts[depth] / RESAMPLES for depth in sorted(counts)}
    low, high = np.quantile(depths, [0.025, 0.975], method="closest_observation").astype(int)
    first, *others = (depth for depth, _ in counts.most_common(2))
    more = None
    if others and shares[first] < SETTLED:
        scores = rule.score(resamples)
        gap = scores[:, first - rule.margin] - scores[:, others[0] - rule.margin]
        more = _times_more(float(gap.mean()), float(gap.std()))
    return Certainty(shares, (int(low), int(high)), more)


def _times_more(gap: float, spread: float) -> float | None:
    """How many times as many tiles put the gap between two scores at its 95 % quantile.

    The spread of a mean falls with the root of the number of tiles.
    """
    needed = NormalDist().inv_cdf(SETTLED) * spread / max(abs(gap), 1e-12)
    return round(needed**2, 1) if 1 < needed**2 <= WORTH_WAITING else None


def may_stop_at(tiles: int, tiles_per_group: int) -> bool:
    """Whether sampling may stop after this many tiles: 8, 16, 32, ... groups.

    Seldom, since each time is a chance to stop by mistake.
    """
    groups, rest = divmod(tiles, tiles_per_group)
    stops, odd = divmod(groups, FIRST_STOP)
    return rest == odd == 0 and stops > 0 and stops & (stops - 1) == 0


def is_settled(values: NDArray[np.float64], criterion: str, seed: int) -> bool:
    """Whether sampling may stop: at least 95 % of the resamples choose one depth."""
    return max(assess(values, criterion, seed).shares.values(), default=0.0) >= SETTLED
