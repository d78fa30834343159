"""Scores of resamples: as the metrics of others, and as far apart as theory says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, r2_score

from terratorch_simpler.probing.dense import CountedJaccard
from terratorch_simpler.probing.resampling import (
    BLOCKS,
    BlockSums,
    accuracies,
    average_precisions,
    draws,
    jaccards,
    macro_jaccard,
    r2s,
    weighted_precision,
)
from terratorch_simpler.selection.certainty import RESAMPLES

CLASSES, LAYERS = 5, 3


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("ignore", [None, -1, 255, 1])
def test_macro_jaccard_is_that_of_torchmetrics(ignore: int | None) -> None:
    """Also where a class is absent, is only predicted, or is the one to ignore."""
    counts = torch.from_numpy(generator().integers(0, 50, (4, CLASSES, CLASSES)))
    counts[1, 2], counts[1, :, 2] = 0, 0
    counts[2, 3] = 0
    counts[3, 1], counts[3, :, 4] = 0, 0
    overlap = counts.diagonal(dim1=1, dim2=2).double().numpy()
    union = (counts.sum(1) + counts.sum(2)).numpy() - overlap
    found = macro_jaccard(overlap, union, ignore)
    for own, value in zip(counts, found, strict=True):
        metric = CountedJaccard(CLASSES, average="macro", ignore_index=ignore)
        metric.update(own)
        assert value == pytest.approx(float(metric.compute()), abs=1e-6)


def test_nothing_has_no_jaccard() -> None:
    assert np.isnan(macro_jaccard(np.zeros(3), np.zeros(3), None))


def test_tiles_go_round_the_blocks() -> None:
    """Tokens without a label are of no block, their tiles are."""
    sums = BlockSums()
    labelled = torch.ones(BLOCKS + 2, 2, dtype=torch.bool)
    labelled[0, 0] = False
    for part in (labelled[:5], labelled[5:6], labelled[6:]):
        blocks = sums.of(part)
        one = torch.ones(len(blocks), 1)
        sums.add(blocks, flat=one, layered=torch.stack([one, 2 * one]))
    assert sums["flat"].shape == (BLOCKS, 1)
    assert sums["flat"][:3, 0].tolist() == [3, 4, 2]
    assert sums["layered"].sum((1, 2)).tolist() == [2 * BLOCKS + 3, 4 * BLOCKS + 6]


def test_resamples_are_as_large_as_the_tiles_and_do_not_depend_on_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (once,) = draws(7, 3)
    assert once.shape == (RESAMPLES, 7)
    assert (once.sum(1) == 7).all()
    monkeypatch.setattr("terratorch_simpler.probing.resampling.DRAWN", 7 * 300)
    parts = list(draws(7, 3))
    assert [len(part) for part in parts] == [300, 300, 300, 100]
    assert np.array_equal(np.concatenate(parts), once)
    assert not np.array_equal(next(draws(7, 4)), once[:300])


def test_accuracy_of_each_resample() -> None:
    hits = generator().random((LAYERS, 40)) < 0.7
    found = accuracies(hits, 0)
    assert found is not None
    (weights,) = draws(40, 0)
    by_hand = [np.repeat(hits[1], row.astype(int)).mean() for row in weights[:5]]
    assert found.shape == (RESAMPLES, LAYERS)
    assert found[:5, 1] == pytest.approx(by_hand)
    # A proportion's standard error, within what 1000 resamples leave open.
    assert found.std(0) == pytest.approx(np.sqrt(hits.mean(1) * (1 - hits.mean(1)) / 40), rel=0.1)


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_precision_is_that_of_scikit_learn(ties: bool) -> None:
    random = generator()
    decided, truth = random.standard_normal(60), random.integers(0, 2, 60)
    if ties:
        decided = decided.round(0)
    weights = random.multinomial(60, [1 / 60] * 60, 20).astype(float)
    expected = [average_precision_score(truth, decided, sample_weight=row) for row in weights]
    assert weighted_precision(decided, truth, weights) == pytest.approx(expected, abs=1e-12)


def test_classes_that_a_resample_lacks_are_left_out_of_it() -> None:
    random = generator()
    decided = random.standard_normal((LAYERS, 30, CLASSES))
    truth = (random.random((30, CLASSES)) < 0.3).astype(np.int64)
    truth[:, 2] = np.arange(30) == 4
    found = average_precisions(decided, truth, 0)
    assert found is not None
    (weights,) = draws(30, 0)
    lacking = int(np.flatnonzero(weights[:, 4] == 0)[0])
    for number, classes in ((lacking, [0, 1, 3, 4]), (int(weights[:, 4].argmax()), range(CLASSES))):
        expected = [
            average_precision_score(truth[:, c], decided[1, :, c], sample_weight=weights[number])
            for c in classes
        ]
        assert found[number, 1] == pytest.approx(np.mean(expected))


def test_resamples_without_any_class_are_left_out() -> None:
    truth = (np.arange(20) == 0).astype(np.int64)[:, None]
    found = average_precisions(generator().standard_normal((2, 20, 1)), truth, 0)
    assert found is not None
    (weights,) = draws(20, 0)
    assert len(found) == (weights[:, 0] > 0).sum() < RESAMPLES


def test_jaccard_of_each_resample() -> None:
    counts = generator().integers(0, 9, (LAYERS, 12, CLASSES, CLASSES)).astype(float)
    # A block without a pixel is none.
    counts[:, 5] = 0
    overlap = counts.diagonal(axis1=2, axis2=3)
    union = counts.sum(2) + counts.sum(3) - overlap
    found = jaccards(overlap, union, 1, 0)
    assert found is not None
    (weights,) = draws(11, 0)
    there = np.delete(counts, 5, axis=1)
    for number in range(5):
        metric = CountedJaccard(CLASSES, average="macro", ignore_index=1)
        metric.update(torch.from_numpy(np.tensordot(weights[number], there[2], 1)).long())
        assert found[number, 2] == pytest.approx(float(metric.compute()), abs=1e-6)


def test_r2_of_each_resample() -> None:
    random = generator()
    truth = random.standard_normal((9, 6))
    guesses = truth + random.standard_normal((LAYERS, 9, 6))
    totals = np.stack([np.full(9, 6.0), truth.sum(1), (truth**2).sum(1)], -1)
    found = r2s(((guesses - truth) ** 2).sum(-1), totals, 0)
    assert found is not None
    (weights,) = draws(9, 0)
    for number in range(5):
        pixels = np.repeat(weights[number], 6)
        expected = r2_score(truth.ravel(), guesses[1].ravel(), sample_weight=pixels)
        assert found[number, 1] == pytest.approx(expected)


def test_resamples_of_one_value_have_no_r2() -> None:
    """Each tile is flat: who draws one of them only has no variance to explain."""
    truth = np.array([0.1, 0.7, 0.3])
    totals = np.stack([np.full(3, 7.0), 7 * truth, 7 * truth**2], -1)
    found = r2s(np.ones((2, 3)), totals, 0)
    assert found is not None
    (weights,) = draws(3, 0)
    assert len(found) == ((weights > 0).sum(1) > 1).sum() < RESAMPLES
    assert np.abs(found).max() < 1000


@pytest.mark.parametrize(
    "found",
    [
        lambda: accuracies(np.ones((2, 1), bool), 0),
        lambda: average_precisions(np.ones((2, 1, 3)), np.ones((1, 3), int), 0),
        lambda: jaccards(np.ones((2, 1, 3)), np.ones((2, 1, 3)), None, 0),
        lambda: r2s(np.ones((2, 2)), np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]), 0),
    ],
)
def test_of_one_tile_there_is_one_resample(found: Any) -> None:
    assert found() is None
