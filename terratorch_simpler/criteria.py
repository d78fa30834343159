"""Depth criteria: from what one pass measured of the layers to a score for every depth.

Layer 0 is the input of the first block and layer l the output of block l (1-based). A criterion
reads the similarity matrix S of shape [L + 1, L + 1], or one statistic of every layer [L + 1], and
scores every depth of a range. The depth with the largest score is kept; ties go to the smallest
depth. Keeping depth k means keeping blocks 1..k. Stacks of matrices [..., L + 1, L + 1], or of
statistics [..., L + 1], are scored at once, for resampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terratorch_simpler.baselines import BASELINES, Matrix

Scores = dict[int, float]
SETTLED = 0.95
"""Share of resamples from which on a depth counts as settled."""


def _mean_row_change(block: Matrix) -> Matrix:
    """Mean absolute difference between consecutive rows of square matrices."""
    return np.asarray(np.abs(np.diff(block, axis=-2)).mean(axis=(-2, -1)))


def simpler(similarity: Matrix) -> Matrix:
    """The score of SIMPLER (Barreiro et al., arXiv 2603.19873), as restated by Zhang et al. (2026).

    ``g(c) = delta(S[1:c, 1:c]) - delta(S[c+1:L, c+1:L])`` over the block outputs 1..L, where delta
    is the mean absolute difference between consecutive rows: the kept part still changes, the
    removed part is flat. Defined for 2 <= c <= L - 2, since both parts need two rows.

    Args:
        similarity: [..., L + 1, L + 1], L >= 4.

    Returns:
        g(c) for c = 2..L-2, [..., L - 3]; above 0 where the removed part is flatter than the kept.
    """
    outputs = similarity[..., 1:, 1:]
    scores = [
        _mean_row_change(outputs[..., :c, :c]) - _mean_row_change(outputs[..., c:, c:])
        for c in range(2, outputs.shape[-1] - 1)
    ]
    return np.stack(scores, axis=-1)


def stabilization(similarity: Matrix) -> Matrix:
    """The single change point of the path of representations through the layers.

    S is a cosine Gram matrix, so every layer is a unit vector and the cost of a split into layers
    0..k-1 and k..L is the within-part scatter of the kernel change-point problem (Harchaoui and
    Cappe 2007; Arlot, Celisse and Harchaoui 2019).

    Args:
        similarity: [..., L + 1, L + 1].

    Returns:
        ``-scatter`` for k = 1..L-1, [..., L - 1]: block k gives the first stable representation.
    """

    def scatter(part: Matrix) -> Matrix:
        layers = part.shape[-1]
        return np.asarray(layers - part.sum(axis=(-2, -1)) / layers)

    return np.stack(
        [
            -(scatter(similarity[..., :k, :k]) + scatter(similarity[..., k:, k:]))
            for k in _cuts(similarity)
        ],
        axis=-1,
    )


def redundancy(similarity: Matrix) -> Matrix:
    """Similarity mass of what is removed: the sum over j > k of S[k, j], over L, for k = 1..L-1.

    A rival kept for comparison; it grows with the number of removed blocks.
    """
    depth = similarity.shape[-1] - 1
    return np.stack(
        [similarity[..., k, k + 1 :].sum(axis=-1) / depth for k in _cuts(similarity)], axis=-1
    )


def contrast(similarity: Matrix) -> Matrix:
    """Mean similarity inside the tail k..L minus the mean between head 0..k-1 and tail.

    A rival kept for comparison, for k = 1..L-1. The diagonal, which is 1 by construction, is left
    out.
    """
    scores = []
    for k in _cuts(similarity):
        tail = similarity[..., k:, k:]
        rows = tail.shape[-1]
        inside = (tail.sum(axis=(-2, -1)) - rows) / (rows * (rows - 1))
        scores.append(inside - similarity[..., :k, k:].mean(axis=(-2, -1)))
    return np.stack(scores, axis=-1)


def knee(similarity: Matrix) -> Matrix:
    """Kneedle (Satopaa et al. 2011) on the similarity to the last layer, for k = 1..L-1.

    The curve is scaled to the unit square; the score is its height above the diagonal, so the knee
    is where the similarity to the last layer stops rising.
    """
    curve = similarity[..., -1]
    lowest = curve.min(axis=-1, keepdims=True)
    span = curve.max(axis=-1, keepdims=True) - lowest
    height = np.divide(curve - lowest, span, out=np.zeros_like(curve), where=span > 0)
    depths = np.array(_cuts(similarity))
    return np.asarray(height[..., depths] - depths / (curve.shape[-1] - 1))


REGIONS = 0.8
"""Share of the largest spatial contrast from which on tokens are taken to stand for regions."""


def spatial_contrast(curve: Matrix) -> Matrix:
    """The first depth with 80 % of the largest spatial contrast.

    A block is worth keeping while it still turns pixels into regions, so that tokens side by side
    become more alike than tokens half a tile apart
    (:func:`~terratorch_simpler.layers.statistics.spatial_contrast`).

    Args:
        curve: Spatial contrast of every layer, [..., L + 1].

    Returns:
        For k = 1..L, [..., L]: the contrast over its maximum, at most 0.8, so that the first depth
        with as much is the smallest of equal ones; where no contrast is above 0, the contrast.
    """
    depths = curve[..., 1:]
    largest = depths.max(axis=-1, keepdims=True)
    share = np.divide(depths, largest, out=np.zeros_like(depths), where=largest > 0)
    return np.where(largest > 0, np.minimum(share, REGIONS), depths)


def spatial_rise(curve: Matrix) -> Matrix:
    """The rise of spatial contrast by each block, for k = 1..L; without a constant."""
    return np.diff(curve, axis=-1)


def participation(curve: Matrix) -> Matrix:
    """The participation ratio after each block, for k = 1..L: the most directions are kept.

    LOES (arXiv 2605.23033) chooses layers by a monotone function of it.
    """
    return curve[..., 1:]


def rankme(curve: Matrix) -> Matrix:
    """RankMe (Garrido et al., ICML 2023) after each block, for k = 1..L: the largest is kept."""
    return curve[..., 1:]


def neighbours(curve: Matrix) -> Matrix:
    """Mean neighbour overlap of the removed blocks minus that of the kept, for k = 1..L-1.

    A removed block is to leave a sample's neighbours (Valeriani et al. 2023) as they are.
    """
    blocks = curve[..., 1:]
    return np.stack(
        [
            blocks[..., k:].mean(axis=-1) - blocks[..., :k].mean(axis=-1)
            for k in range(1, blocks.shape[-1])
        ],
        axis=-1,
    )


def _cuts(similarity: Matrix) -> range:
    """Depths 1..L-1: something is kept and something removed."""
    return range(1, similarity.shape[-1] - 1)


SIMILARITY = "similarity"


@dataclass(frozen=True)
class Criterion:
    """A way to choose a depth from what one pass measured.

    Attributes:
        score: Function from stacks of what it reads to scores [..., depths].
        margin: The first depth that it scores, and how many blocks must be left for the last.
        positive_premise: True where a largest score at or below 0 contradicts what the criterion
            assumes; False where the criterion has no premise that the score could show.
        reads: ``similarity``, or the name of a statistic of every layer.
    """

    score: Callable[[Matrix], Matrix]
    margin: int = 1
    positive_premise: bool = False
    reads: str = SIMILARITY

    def __call__(self, measured: Matrix) -> Scores:
        """Scores of every depth; see the function behind :attr:`score`."""
        self.check_depth(len(measured) - 1)
        return dict(enumerate(self.score(measured).tolist(), start=self.margin))

    def depths(self, measured: Matrix) -> NDArray[np.intp]:
        """The depth that each of a stack chooses: [...]."""
        self.check_depth(measured.shape[-1] - 1)
        return np.asarray(self.score(measured).argmax(axis=-1) + self.margin)

    @property
    def min_depth(self) -> int:
        """Fewest blocks that a backbone must have for a score to exist."""
        return 2 * self.margin

    def check_depth(self, blocks: int) -> None:
        """Refuse a backbone that is too shallow.

        Raises:
            ValueError: If it has fewer than :attr:`min_depth` blocks.
        """
        if blocks < self.min_depth:
            raise ValueError(
                f"criterion '{self.score.__name__}' needs a backbone of at least {self.min_depth} "
                f"blocks, this one has {blocks}: name the depth yourself (keep_blocks)"
            )

    def stabilizes(self, scores: Scores) -> bool | None:
        """Whether the premise holds (None: this criterion has none)."""
        return max(scores.values()) > 0 if self.positive_premise else None


CRITERIA: dict[str, Criterion] = {
    "simpler": Criterion(simpler, margin=2, positive_premise=True),
    "stabilization": Criterion(stabilization),
    "redundancy": Criterion(redundancy),
    "contrast": Criterion(contrast),
    "knee": Criterion(knee),
    "spatial_contrast": Criterion(spatial_contrast, reads="spatial_contrast"),
    "spatial_rise": Criterion(spatial_rise, reads="spatial_contrast"),
    "participation": Criterion(participation, reads="participation"),
    "rankme": Criterion(rankme, reads="rankme"),
    "neighbours": Criterion(neighbours, reads="neighbours"),
}
"""Criteria that choose the depth themselves, by name."""
OF_SIMILARITY = {name: rule for name, rule in CRITERIA.items() if rule.reads == SIMILARITY}
"""Those that read the similarity matrix."""
PROBE = "probe"
"""What decides where labels do, by a probe of every depth; it reads nothing of the pass."""


def best_depth(scores: Scores) -> int:
    """Depth with the largest score; the smallest such depth when several tie."""
    return max(sorted(scores), key=scores.__getitem__)


def unknown_criterion(name: str) -> str:
    """Message for a criterion that does not exist."""
    return f"unknown criterion '{name}': one of {', '.join([*CRITERIA, PROBE, *BASELINES])}"


def check_criterion(criterion: str, depth: int | None) -> None:
    """Refuse a criterion that does not exist or does not go with a named depth.

    Raises:
        ValueError: With the way out.
    """
    if criterion in (*CRITERIA, PROBE) and depth is not None:
        raise ValueError(
            f"criterion '{criterion}' chooses the depth itself: leave depth out, or choose one of "
            f"{', '.join(BASELINES)}"
        )
    if criterion in BASELINES and depth is None:
        raise ValueError(f"criterion '{criterion}' needs a depth: say how many blocks to keep")
    if criterion not in (*CRITERIA, PROBE, *BASELINES):
        raise ValueError(unknown_criterion(criterion))
