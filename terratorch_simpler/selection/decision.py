"""From the evidence of one pass to a decision: the depth, its certainty and the rivals' choices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terratorch_simpler.criteria import (
    BASELINES,
    CRITERIA,
    Matrix,
    Scores,
    baseline_blocks,
    best_depth,
    check_criterion,
)
from terratorch_simpler.selection.certainty import Certainty, assess, cka


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
    certainty: Certainty
    stabilizes: bool | None
    others: dict[str, list[int]]


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
    certainty = assess(evidence.terms, criterion, seed) if depth is None else Certainty({})
    return Decision(
        kept_blocks=keeps.pop(criterion),
        similarity=similarity,
        scores=scored.get(criterion, {}),
        confidence=certainty.shares.get(chosen, 0.0) if certainty.shares else None,
        certainty=certainty,
        stabilizes=CRITERIA[criterion].stabilizes(scored[criterion]) if depth is None else None,
        others=keeps,
    )
