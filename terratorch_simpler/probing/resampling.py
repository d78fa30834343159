"""Bootstrap over validation tiles: the scores of every layer that resamples of them give.

All layers are scored on the same resamples, so that differences between them are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from terratorch_simpler.selection.certainty import RESAMPLES

BLOCKS = 256
"""Most parts that sums over validation tiles are kept of."""
DRAWN = 8_000_000
"""Most weights that are held at once."""
SPREAD = 1e-9
"""Share of the sum of squares below which a variance is what rounding leaves of 0."""

Array = NDArray[np.float64]


class BlockSums:
    """Sums over blocks of tiles: tile i is in block i mod 256, so that memory does not grow."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._tiles = 0

    def of(self, labelled: Tensor) -> Tensor:
        """The blocks of the labelled tokens of the next tiles.

        Args:
            labelled: Which tokens have a label, [tiles, cells].

        Returns:
            [labelled tokens].
        """
        tiles = self._tiles + torch.arange(len(labelled))
        self._tiles += len(labelled)
        return (tiles % BLOCKS)[:, None].expand_as(labelled)[labelled]

    def add(self, blocks: Tensor, **values: Tensor) -> None:
        """Add what labelled tokens give.

        Args:
            blocks: As :meth:`of` gives them.
            **values: By name, [..., labelled tokens, values].
        """
        for name, value in values.items():
            if name not in self._sums:
                shape = (*value.shape[:-2], BLOCKS, value.shape[-1])
                self._sums[name] = torch.zeros(shape, dtype=torch.float64)
            self._sums[name].index_add_(-2, blocks, value.double())

    def __getitem__(self, name: str) -> Array:
        """Sums of a name: [..., blocks, values]."""
        return self._sums[name].numpy()


def draws(units: int, seed: int) -> Iterator[Array]:
    """How often each of some tiles, or blocks of them, is drawn by resamples of as many.

    Args:
        units: How many there are.
        seed: Of the draws.

    Yields:
        [resamples, units], some of the 1000 resamples at a time.
    """
    random = np.random.default_rng(seed)
    most = max(1, DRAWN // units)
    for start in range(0, RESAMPLES, most):
        resamples = min(most, RESAMPLES - start)
        yield random.multinomial(units, [1 / units] * units, resamples).astype(np.float64)


def accuracies(hits: NDArray[np.bool_], seed: int) -> Array | None:
    """Accuracy of every layer on resamples.

    Args:
        hits: Which tiles are classified right, [layers, tiles].
        seed: Of the draws.

    Returns:
        [RESAMPLES, layers]; None for one tile, of which there is one resample only.
    """
    tiles = hits.shape[1]
    return _scored(tiles, seed, lambda weights: weights @ hits.T / tiles)


def average_precisions(decided: Array, truth: NDArray[np.int64], seed: int) -> Array | None:
    """Macro average precision of every layer on resamples.

    Of the classes that a resample holds; a resample without any is left out.

    Args:
        decided: What was decided of each tile, [layers, tiles, classes].
        truth: 0 or 1, [tiles, classes].
        seed: Of the draws.

    Returns:
        As :func:`accuracies`.
    """

    def score(weights: Array) -> Array:
        layers = []
        for values in decided:
            classes = [
                weighted_precision(value, true, weights)
                for value, true in zip(values.T, truth.T, strict=True)
            ]
            layers.append(_mean_of_known(np.stack(classes, -1)))
        return np.stack(layers, -1)

    return _scored(len(truth), seed, score)


def weighted_precision(decided: Array, truth: NDArray[np.int64], weights: Array) -> Array:
    """Average precision of one class with each of several weights, as scikit-learn defines it.

    Args:
        decided: Of each tile, [tiles].
        truth: 0 or 1, [tiles].
        weights: [resamples, tiles].

    Returns:
        [resamples]; NaN where no tile of the class has weight.
    """
    order = np.argsort(-decided, kind="stable")
    ranked, positive = decided[order], truth[order] == 1
    # Tiles with one value are taken together. Recall rises only where a positive is among them.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    ends = ends[np.diff(np.cumsum(positive)[ends], prepend=0) > 0]
    if len(ends) == 0:
        return np.full(len(weights), np.nan)
    starts = np.concatenate([[0], ends[:-1] + 1])
    weights = weights[:, order[: ends[-1] + 1]]
    found = np.add.reduceat(weights * positive[: ends[-1] + 1], starts, axis=1)
    hits = found.cumsum(1)
    taken = np.add.reduceat(weights, starts, axis=1).cumsum(1)
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    with np.errstate(invalid="ignore"):
        return np.asarray((found * precision).sum(1) / hits[:, -1])


def jaccards(overlap: Array, union: Array, ignore_index: int | None, seed: int) -> Array | None:
    """Macro Jaccard index of every layer on resamples of blocks.

    Args:
        overlap: Pixels of each class that are predicted as it, [layers, blocks, classes].
        union: Pixels that are of the class, or predicted as it, likewise.
        ignore_index: Class that counts for nothing.
        seed: Of the draws.

    Returns:
        As :func:`accuracies`; blocks without a pixel are none.
    """
    there = union.any((0, 2))
    overlap, union = overlap[:, there], union[:, there]

    def score(weights: Array) -> Array:
        hits, pixels = (
            np.einsum("rb,lbc->rlc", weights, part, optimize=True) for part in (overlap, union)
        )
        return macro_jaccard(hits, pixels, ignore_index)

    return _scored(int(there.sum()), seed, score)


def macro_jaccard(overlap: Array, union: Array, ignore_index: int | None) -> Array:
    """Macro Jaccard index as torchmetrics defines it: the mean over the classes that are there.

    Args:
        overlap: Pixels of each class that are predicted as it, [..., classes].
        union: Pixels that are of the class, or predicted as it, likewise.
        ignore_index: Class that counts for nothing.

    Returns:
        [...]; NaN where no class is there.
    """
    index = np.divide(overlap, union, out=np.full(union.shape, np.nan), where=union > 0)
    if ignore_index is not None and 0 <= ignore_index < index.shape[-1]:
        index[..., ignore_index] = np.nan
    return _mean_of_known(index)


def r2s(errors: Array, totals: Array, seed: int) -> Array | None:
    """R2 of every layer on resamples of blocks.

    Args:
        errors: Sum of the squared errors, [layers, blocks].
        totals: Number of values, their sum and the sum of their squares, [blocks, 3].
        seed: Of the draws.

    Returns:
        As :func:`accuracies`; a resample whose values are all alike is left out.
    """
    there = totals[:, 0] > 0
    errors, totals = errors[:, there], totals[there]

    def score(weights: Array) -> Array:
        count, total, squares = (weights @ totals).T
        spread = squares - total**2 / count
        spread[spread <= SPREAD * squares] = np.nan
        return np.asarray(1 - weights @ errors.T / spread[:, None])

    return _scored(int(there.sum()), seed, score)


def _mean_of_known(values: Array) -> Array:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    total = np.where(known, values, 0.0).sum(-1)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def _scored(units: int, seed: int, score: Callable[[Array], Array]) -> Array | None:
    """Scores of all resamples that have one; None where that are fewer than two."""
    if units < 2:
        return None
    found = np.concatenate([score(weights) for weights in draws(units, seed)])
    found = found[~np.isnan(found).any(1)]
    return found if len(found) > 1 else None
