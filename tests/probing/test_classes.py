"""Probes of whole tiles on constructed features."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score
from torch import Tensor

from terratorch_simpler.probing.classes import ClassProbe
from terratorch_simpler.probing.labels import Labels
from terratorch_simpler.probing.ridge import PENALTIES
from terratorch_simpler.results.probe import Scores
from terratorch_simpler.selection.certainty import RESAMPLES

LAYERS, WIDTH, CLASSES, INFORMED = 3, 8, 4, 1
SINGLE, SEVERAL = Labels("classification", CLASSES, -100), Labels("multilabel")
Problem = tuple[Tensor, Tensor]


def problem(tiles: int, seed: int, several: bool = False) -> Problem:
    """Features of noise but for one layer, with a scale and an offset of their own each."""
    random = torch.Generator().manual_seed(seed)
    if several:
        labels = (torch.rand(tiles, CLASSES, generator=random) < 0.3).long()
        shown = labels
    else:
        labels = torch.randint(0, CLASSES, (tiles,), generator=random)
        shown = torch.nn.functional.one_hot(labels, CLASSES)
    features = torch.randn(LAYERS, tiles, 1, WIDTH, generator=random)
    features[INFORMED, :, 0, :CLASSES] += 2 * shown
    return features * torch.logspace(-3, 3, WIDTH) + torch.linspace(-50, 50, WIDTH), labels


def batches(tiles: Problem, size: int) -> Any:
    return zip(torch.split(tiles[0], size, 1), torch.split(tiles[1], size), strict=True)


def run(labels: Labels, train: Problem, val: Problem, batch: int = 7) -> tuple[Scores, list[str]]:
    probe = ClassProbe(labels)
    for features, truth in batches(train, batch):
        probe.learn(features, truth, (1, 1), 0)
    probe.fit()
    for features, truth in batches(val, batch):
        probe.validate(features, truth, (1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return probe.scores()


def ridge(x: Any, y: Any, z: Any, penalty: float) -> Any:
    """Predictions for z of a ridge on standardised features, written out."""
    mean, std = x.mean(0), x.std(0)
    x, z = (x - mean) / std, (z - mean) / std
    gram = x.T @ x + penalty * len(x) * np.eye(x.shape[1])
    return y.mean(0) + z @ np.linalg.solve(gram, x.T @ (y - y.mean(0)))


def test_the_layer_that_holds_the_class_is_found() -> None:
    scores, doubts = run(SINGLE, problem(300, 0), problem(200, 1))
    assert (scores.metric, list(scores.others), doubts) == ("accuracy", ["macro F1"], [])
    assert scores.values[INFORMED] > 0.8
    assert max(scores.values[0], scores.values[2]) < 0.4


def test_accuracy_is_that_of_a_ridge_on_the_training_tiles() -> None:
    """With the penalty that leaves out one training tile at a time with the most hits."""
    train, val = problem(60, 0), problem(80, 1)
    scores, _ = run(SINGLE, train, val)
    y, truth = (part[1].numpy() for part in (train, val))
    target = 2.0 * np.eye(CLASSES)[y] - 1
    for layer in range(LAYERS):
        x, z = (part[0][layer, :, 0].double().numpy() for part in (train, val))
        choice = ridge(x, target, z, scores.penalties[layer]).argmax(1)
        assert scores.values[layer] == pytest.approx((choice == truth).mean())
        assert scores.others["macro F1"][layer] == pytest.approx(
            f1_score(truth, choice, average="macro")
        )
        mean, std = x.mean(0), x.std(0)
        standard = (x - mean) / std
        hits = []
        for penalty in PENALTIES:
            left_out = [
                _loo(standard, target, i, penalty * len(x)).argmax() == y[i] for i in range(60)
            ]
            hits.append(np.mean(left_out))
        chosen = PENALTIES.index(
            next(p for p in PENALTIES if np.isclose(p, scores.penalties[layer]))
        )
        assert hits[chosen] == pytest.approx(max(hits), abs=1 / 60 + 1e-9)


def _loo(x: Any, y: Any, i: int, alpha: float) -> Any:
    keep = np.arange(len(x)) != i
    a, b = x[keep], y[keep]
    centred = a - a.mean(0)
    weights = np.linalg.solve(
        centred.T @ centred + alpha * np.eye(x.shape[1]), centred.T @ (b - b.mean(0))
    )
    return b.mean(0) + (x[i] - a.mean(0)) @ weights


def test_several_labels_a_tile() -> None:
    train, val = problem(200, 0, several=True), problem(150, 1, several=True)
    scores, doubts = run(SEVERAL, train, val)
    assert (scores.metric, doubts) == ("average precision", [])
    assert scores.values[INFORMED] > 0.8
    assert max(scores.values[0], scores.values[2]) < 0.45
    x, z = (part[0][INFORMED, :, 0].double().numpy() for part in (train, val))
    decided = ridge(x, 2.0 * train[1].numpy() - 1, z, scores.penalties[INFORMED])
    assert scores.values[INFORMED] == pytest.approx(
        average_precision_score(val[1].numpy(), decided, average="macro")
    )


@pytest.mark.parametrize("labels", [SINGLE, SEVERAL])
def test_tiles_are_resampled(labels: Labels) -> None:
    several = labels is SEVERAL
    scores, _ = run(labels, problem(100, 0, several), problem(60, 1, several))
    assert scores.resamples is not None
    assert scores.resamples.shape == (RESAMPLES, LAYERS)
    middle, spread = scores.resamples.mean(0), scores.resamples.std(0)
    assert (abs(middle - scores.values) < 2 * spread).all()
    assert (spread > 0.01).all()


def test_one_validation_tile_is_not_resampled() -> None:
    features, truth = problem(9, 1)
    truth[1:] = -100
    assert run(SINGLE, problem(100, 0), (features, truth))[0].resamples is None


def test_labels_that_no_validation_tile_has_are_left_out() -> None:
    train, val = problem(200, 0, several=True), problem(150, 1, several=True)
    val[1][:, 2] = 0
    scores, doubts = run(SEVERAL, train, val)
    assert scores.values[INFORMED] > 0.8
    train[1][:, 1] = 0
    scores, doubts = run(SEVERAL, train, val)
    assert "class 1 is in the validation tiles but in no training tile" in doubts[0]


def test_one_label_that_a_tile_has_or_not() -> None:
    train, val = problem(100, 0, several=True), problem(80, 1, several=True)
    scores, _ = run(SEVERAL, (train[0], train[1][:, :1]), (val[0], val[1][:, :1]))
    assert scores.values[INFORMED] > 0.7


def test_random_labels_teach_nothing() -> None:
    train = problem(300, 0)
    shuffled = train[1][torch.randperm(300, generator=torch.Generator().manual_seed(2))]
    scores, _ = run(SINGLE, (train[0], shuffled), problem(200, 1))
    assert max(scores.values) < 0.4


def test_ignored_tiles_do_not_count() -> None:
    train, val = problem(100, 0), problem(80, 1)
    expected, _ = run(SINGLE, (train[0][:, 20:], train[1][20:]), (val[0][:, 9:], val[1][9:]))
    train[1][:20] = val[1][:9] = -100
    scores, said = run(SINGLE, train, val)
    assert scores == expected
    assert said == ["29 tiles are left out: their label is -100, the ignore_index, or NaN"]


def test_a_class_that_only_the_validation_tiles_hold_is_named() -> None:
    train, val = problem(100, 0), problem(80, 1)
    kept = train[1] != 3
    _, doubts = run(SINGLE, (train[0][:, kept], train[1][kept]), val)
    assert "class 3 is in the validation tiles but in no training tile" in doubts[0]


@pytest.mark.parametrize(
    ("labels", "change", "message"),
    [
        (SINGLE, lambda y: y.fill_(2), "all 40 training tiles have the label 2"),
        (SINGLE, lambda y: y.fill_(-100), "all training tiles have the label -100, the ignore"),
        (SINGLE, lambda y: y.fill_(4), "class 4, but num_classes is 4"),
        (SINGLE, lambda y: y.fill_(-1), "class -1, but num_classes is 4"),
        (SEVERAL, lambda y: y.fill_(0), r"all 40 training tiles have the label \[0, 0, 0, 0\]"),
        (SEVERAL, lambda y: y.fill_(2), "holds 2: multilabel needs 0 or 1"),
    ],
)
def test_training_labels_that_cannot_be_learnt(labels: Labels, change: Any, message: str) -> None:
    features, truth = problem(40, 0, several=labels is SEVERAL)
    with pytest.raises(ValueError, match=message):
        run(labels, (features, change(truth)), (features, truth))


@pytest.mark.parametrize(
    ("labels", "value", "message"),
    [(SINGLE, -100, "no validation tile is labelled"), (SEVERAL, 0, "has any of the labels")],
)
def test_validation_labels_that_judge_nothing(labels: Labels, value: int, message: str) -> None:
    features, truth = problem(40, 0, several=labels is SEVERAL)
    with pytest.raises(ValueError, match=message):
        run(labels, (features, truth), (features, torch.full_like(truth, value)))
