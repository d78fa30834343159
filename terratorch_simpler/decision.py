"""From the evidence of one pass to a decision: the depth, its certainty and the rivals' choices."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from terratorch_simpler.criteria import (
    BASELINES,
    CRITERIA,
    Matrix,
    Scores,
    baseline_blocks,
    best_depth,
)
from terratorch_simpler.plan import unknown_criterion
from terratorch_simpler.similarity import normalise_hsic

RESAMPLES = 1000


@dataclass(frozen=True)
class Evidence:
    """What one pass over the tiles leaves behind.

    Attributes:
        terms: HSIC terms of every group, [groups, L + 1, L + 1].
        cosine: Mean cosine between layers, [L + 1, L + 1].
        angle: Mean angle between layers over pi, [L + 1, L + 1].
    """

    terms: NDArray[np.float64]
    cosine: Matrix
    angle: Matrix


@dataclass(frozen=True)
class Decision:
    """What is kept and how sure it is; the attributes are those of the plan."""

    kept_blocks: list[int]
    similarity: Matrix
    scores: Scores
    confidence: float | None
    depth_shares: dict[int, float]
    stabilizes: bool | None
    others: dict[str, list[int]]


def check_criterion(criterion: str, depth: int | None) -> None:
    """Refuse a criterion that does not exist or does not go with a named depth.

    Raises:
        ValueError: With the way out.
    """
    if criterion in CRITERIA and depth is not None:
        raise ValueError(
            f"criterion '{criterion}' chooses the depth itself: leave depth out, or choose one of "
            f"{', '.join(BASELINES)}"
        )
    if criterion in BASELINES and depth is None:
        raise ValueError(f"criterion '{criterion}' needs a depth: say how many blocks to keep")
    if criterion not in CRITERIA and criterion not in BASELINES:
        raise ValueError(unknown_criterion(criterion))


def cka(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """CKA from summed HSIC terms of shape [..., L + 1, L + 1], rounded to six decimals.

    The decision is taken on what the plan shows, so that it can be recomputed from the plan and
    does not depend on the last bits of a machine's arithmetic.
    """
    similarity = normalise_hsic(torch.from_numpy(terms)).numpy()
    rounded: NDArray[np.float64] = np.round((similarity + similarity.swapaxes(-1, -2)) / 2, 6)
    return rounded


def bootstrap(terms: NDArray[np.float64], criterion: str, seed: int) -> dict[int, float]:
    """Share of resamples of the groups that choose each depth.

    Groups hold disjoint tiles, so this is a bootstrap over tiles.

    Args:
        terms: [groups, L + 1, L + 1].
        criterion: One of :data:`CRITERIA`.
        seed: Seed of the resampling.

    Returns:
        ``{depth: share}`` of the depths that were chosen; empty for fewer than two groups.
    """
    groups = len(terms)
    if groups < 2:
        return {}
    counts = np.random.default_rng(seed).multinomial(groups, [1 / groups] * groups, RESAMPLES)
    resampled = cka(np.tensordot(counts.astype(np.float64), terms, axes=1))
    chosen = Counter(best_depth(CRITERIA[criterion](matrix)) for matrix in resampled)
    return {depth: chosen[depth] / RESAMPLES for depth in sorted(chosen)}


def decide(evidence: Evidence, criterion: str, depth: int | None, seed: int) -> Decision:
    """Choose the blocks to keep, and what every other criterion would have kept.

    Args:
        evidence: Of one pass.
        criterion: One of the criteria, or a baseline.
        depth: How many blocks a baseline keeps; None for a criterion.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If the criterion and the depth do not go together, the depth does not exist, or
            the backbone is too shallow for the criterion.
    """
    check_criterion(criterion, depth)
    similarity = cka(evidence.terms.sum(axis=0))
    total = len(similarity) - 1
    scored = {
        name: rule(similarity)
        for name, rule in CRITERIA.items()
        if total >= rule.min_depth or name == criterion
    }
    chosen = best_depth(scored[criterion]) if depth is None else depth
    if not 1 <= chosen <= total:
        raise ValueError(f"depth is {chosen}, but this backbone has {total} blocks")
    keeps = {name: list(range(best_depth(scores))) for name, scores in scored.items()}
    for name in BASELINES:
        keeps[name] = baseline_blocks(name, evidence.cosine, evidence.angle, chosen)
    shares = bootstrap(evidence.terms, criterion, seed) if depth is None else {}
    return Decision(
        kept_blocks=keeps.pop(criterion),
        similarity=similarity,
        scores=scored.get(criterion, {}),
        confidence=shares.get(chosen, 0.0) if shares else None,
        depth_shares=shares,
        stabilizes=CRITERIA[criterion].stabilizes(scored[criterion]) if depth is None else None,
        others=keeps,
    )
