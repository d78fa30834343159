"""From the evidence of one pass to a decision: the depth, its certainty and the rivals' choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from terratorch_simpler.baselines import BASELINES, Matrix, baseline_blocks
from terratorch_simpler.criteria import (
    CRITERIA,
    PROBE,
    SIMILARITY,
    Scores,
    best_depth,
    check_criterion,
)
from terratorch_simpler.results.probe import Probe
from terratorch_simpler.selection.certainty import Certainty, assess, summary


@dataclass(frozen=True)
class Evidence:
    """What one pass over the tiles leaves behind.

    Attributes:
        terms: HSIC terms of every group, [groups, L + 1, L + 1].
        cosine: Mean cosine between layers, [L + 1, L + 1].
        angle: Mean angle between layers over pi, [L + 1, L + 1].
        statistics: Statistics of every layer by name, of every group that has them,
            [groups, L + 1].
        missing: Why a statistic has no group, by name.
    """

    terms: NDArray[np.float64]
    cosine: Matrix
    angle: Matrix
    statistics: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    def values(self, reads: str) -> NDArray[np.float64]:
        """What a criterion reads, of every group.

        Raises:
            ValueError: If it could not be measured, with the reason.
        """
        if reads == SIMILARITY:
            return self.terms
        if reads not in self.statistics:
            raise ValueError(
                f"there is no {reads} of the layers, since {self.missing[reads]}: "
                "choose another criterion"
            )
        return self.statistics[reads]


@dataclass(frozen=True)
class Decision:
    """What is kept and how sure it is; the attributes are those of the plan."""

    kept_blocks: list[int]
    similarity: Matrix
    statistics: dict[str, list[float]]
    unread: dict[str, str]
    scores: Scores
    confidence: float | None
    certainty: Certainty
    stabilizes: bool | None
    others: dict[str, list[int]]


def decide(
    evidence: Evidence,
    criterion: str,
    depth: int | None,
    seed: int,
    labelled: Probe | None = None,
) -> Decision:
    """Choose the blocks to keep, and what every other criterion would have kept.

    Args:
        evidence: Of one pass.
        criterion: One of the criteria, a baseline, or ``probe``.
        depth: How many blocks a baseline keeps; None for a criterion.
        seed: Seed of the bootstrap.
        labelled: What labels say of every depth; ``probe`` needs it.

    Raises:
        ValueError: If the criterion and the depth do not go together, the depth does not exist, or
            the backbone is too shallow for the criterion.
    """
    check_criterion(criterion, depth)
    names = [SIMILARITY, *evidence.statistics]
    measured = {name: summary(evidence.values(name), name) for name in names}
    similarity = measured.pop(SIMILARITY)
    total = len(similarity) - 1
    if criterion in CRITERIA:
        evidence.values(CRITERIA[criterion].reads)
    scored = {
        name: rule(measured.get(rule.reads, similarity))
        for name, rule in CRITERIA.items()
        if (total >= rule.min_depth or name == criterion) and rule.reads in names
    }
    certainty, stabilizes = Certainty({}), None
    if criterion == PROBE:
        assert labelled is not None
        assert labelled.said is not None
        chosen = labelled.said
        certainty = Certainty(labelled.depth_shares or {}, labelled.depth_interval)
    elif depth is None:
        chosen = best_depth(scored[criterion])
        certainty = assess(evidence.values(CRITERIA[criterion].reads), criterion, seed)
        stabilizes = CRITERIA[criterion].stabilizes(scored[criterion])
    else:
        chosen = depth
    if not 1 <= chosen <= total:
        raise ValueError(f"depth is {chosen}, but this backbone has {total} blocks")
    keeps = {name: list(range(best_depth(scores))) for name, scores in scored.items()}
    for name in BASELINES:
        keeps[name] = baseline_blocks(name, evidence.cosine, evidence.angle, chosen)
    scores = scored.get(criterion, {})
    if labelled is not None:
        keeps[PROBE] = list(range(chosen))
        scores = labelled.of_depths
    return Decision(
        kept_blocks=keeps.pop(criterion),
        similarity=similarity,
        statistics={name: curve.tolist() for name, curve in measured.items()},
        unread={
            name: evidence.missing[rule.reads]
            for name, rule in CRITERIA.items()
            if rule.reads in evidence.missing
        },
        scores=scores,
        confidence=certainty.shares.get(chosen, 0.0) if certainty.shares else None,
        certainty=certainty,
        stabilizes=stabilizes,
        others=keeps,
    )
