"""Depth criteria: from a layer-similarity matrix to a score for every depth.

Every criterion takes the matrix S of shape [L + 1, L + 1], where layer 0 is the input of the
first block and layer l the output of block l (1-based), and scores every depth of a range. The
depth with the largest score is kept; ties go to the smallest depth. Keeping depth k means keeping
blocks 1..k. Stacks of matrices [..., L + 1, L + 1] are scored at once, for resampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
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


def _cuts(similarity: Matrix) -> range:
    """Depths 1..L-1: something is kept and something removed."""
    return range(1, similarity.shape[-1] - 1)


@dataclass(frozen=True)
class Criterion:
    """A way to choose a depth from the similarity matrix.

    Attributes:
        score: Function from matrices [..., L + 1, L + 1] to scores [..., depths].
        margin: The depths that it scores are ``margin .. L - margin``.
        positive_premise: True where a largest score at or below 0 contradicts what the criterion
            assumes; False where the criterion has no premise that the score could show.
    """

    score: Callable[[Matrix], Matrix]
    margin: int = 1
    positive_premise: bool = False

    def __call__(self, similarity: Matrix) -> Scores:
        """Scores of every depth; see the function behind :attr:`score`."""
        self.check_depth(len(similarity) - 1)
        return dict(enumerate(self.score(similarity).tolist(), start=self.margin))

    def depths(self, similarity: Matrix) -> NDArray[np.intp]:
        """The depth that each matrix of a stack [..., L + 1, L + 1] chooses: [...]."""
        self.check_depth(similarity.shape[-1] - 1)
        return np.asarray(self.score(similarity).argmax(axis=-1) + self.margin)

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
}
"""Criteria that choose the depth themselves, by name."""


def best_depth(scores: Scores) -> int:
    """Depth with the largest score; the smallest such depth when several tie."""
    return max(sorted(scores), key=scores.__getitem__)


def block_influence(cosine: Matrix, depth: int) -> list[int]:
    """Blocks with the largest influence ``1 - cos(input, output)`` (ShortGPT, Men et al. 2024).

    Args:
        cosine: [L + 1, L + 1] mean cosine between layers.
        depth: How many blocks to keep.

    Returns:
        Sorted 0-based indices of the kept blocks.
    """
    influence = 1 - np.diagonal(cosine, offset=1)
    return sorted(int(block) for block in np.argsort(-influence, kind="stable")[:depth])


def angular_distance(angle: Matrix, depth: int) -> list[int]:
    """All blocks but the run whose input and output are closest in angle (Gromov et al. 2024).

    Args:
        angle: [L + 1, L + 1] mean angle between layers, over pi.
        depth: How many blocks to keep.

    Returns:
        Sorted 0-based indices of the kept blocks; the cut may lie inside.
    """
    total = len(angle) - 1
    removed = total - depth
    start = int(np.argmin(np.diagonal(angle, offset=removed))) if removed else total
    return [block for block in range(total) if not start <= block < start + removed]


def uniform(total: int, depth: int) -> list[int]:
    """Evenly spaced blocks, the last one included: 0-based indices."""
    return [-(-(i + 1) * total // depth) - 1 for i in range(depth)]


def first(total: int, depth: int) -> list[int]:
    """The first ``depth`` blocks: 0-based indices."""
    del total
    return list(range(depth))


BASELINES = ("block_influence", "angular_distance", "uniform", "first")
"""Ways to choose which blocks to keep at a depth that the user names."""


def unknown_criterion(name: str) -> str:
    """Message for a criterion that does not exist."""
    return f"unknown criterion '{name}': one of {', '.join([*CRITERIA, *BASELINES])}"


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


def baseline_blocks(name: str, cosine: Matrix, angle: Matrix, depth: int) -> list[int]:
    """Blocks that a baseline of :data:`BASELINES` keeps at a named depth.

    Args:
        name: Name of the baseline.
        cosine: [L + 1, L + 1] mean cosine between layers.
        angle: [L + 1, L + 1] mean angle between layers, over pi.
        depth: How many blocks to keep.

    Returns:
        Sorted 0-based indices.
    """
    total = len(cosine) - 1
    choices: dict[str, Callable[[], list[int]]] = {
        "block_influence": lambda: block_influence(cosine, depth),
        "angular_distance": lambda: angular_distance(angle, depth),
        "uniform": lambda: uniform(total, depth),
        "first": lambda: first(total, depth),
    }
    return choices[name]()
