"""Dense probes on constructed features: which layer is good, and by how much."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.metrics import r2_score
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from terratorch_simpler.probing.dense import DenseProbe
from terratorch_simpler.probing.labels import Labels
from terratorch_simpler.probing.ridge import RidgeStream
from terratorch_simpler.results.probe import Scores
from terratorch_simpler.selection.certainty import RESAMPLES

LAYERS, WIDTH, GRID, CELL, CLASSES = 4, 6, (2, 3), 4, 3
INFORMED = 2
Problem = tuple[Tensor, Tensor]


def segmentation(tiles: int, seed: int, ignored: float = 0.0) -> Problem:
    """Features of noise but for one layer, which holds the class of each cell; ragged borders."""
    random = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, CLASSES, (tiles, GRID[0] * GRID[1]), generator=random)
    features = torch.randn(LAYERS, tiles, classes.shape[1], WIDTH, generator=random)
    features[INFORMED, ..., :CLASSES] += 8 * torch.nn.functional.one_hot(classes, CLASSES)
    mask = classes.reshape(tiles, *GRID).repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
    # A pixel in ten is of another class than its cell.
    other = torch.randint(0, CLASSES, mask.shape, generator=random)
    mask = torch.where(torch.rand(mask.shape, generator=random) < 0.1, other, mask)
    return features, torch.where(torch.rand(mask.shape, generator=random) < ignored, -1, mask)


def regression(tiles: int, seed: int) -> Problem:
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(LAYERS, tiles, GRID[0] * GRID[1], WIDTH, generator=random)
    value = 280 + features[INFORMED] @ torch.arange(1.0, WIDTH + 1)
    mask = value.reshape(tiles, *GRID).repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
    mask = mask.double() + torch.randn(mask.shape, generator=random)
    mask[:, ::5, ::3] = -9999
    mask[:, 1, 1] = torch.nan
    return features, mask


def batches(tiles: Problem, size: int) -> Any:
    return zip(torch.split(tiles[0], size, 1), torch.split(tiles[1], size), strict=True)


def run(labels: Labels, train: Problem, val: Problem, batch: int = 1000) -> tuple[Any, Scores]:
    probe, first = DenseProbe(labels), 0
    for features, mask in batches(train, batch):
        probe.learn(features, mask, GRID, first)
        first += len(mask)
    probe.fit()
    for features, mask in batches(val, batch):
        probe.validate(features, mask, GRID)
    scores, doubts = probe.scores()
    assert not doubts
    return probe, scores


def predictions(probe: Any, features: Tensor) -> Tensor:
    """[layers, tiles, height, width, targets], by pixel."""
    shifted = probe.stream.features(features.flatten(1, 2))
    values = torch.stack([x @ f.weights for x, f in zip(shifted, probe.fits, strict=True)])
    values = values.reshape(LAYERS, -1, *GRID, values.shape[-1])
    return values.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)


@pytest.mark.parametrize("ignore", [None, -1, 1])
def test_segmentation_scores_are_those_of_the_pixels(ignore: int | None) -> None:
    """Also where the label to ignore is one of the classes."""
    ignored = 0.4 if ignore == -1 else 0.0
    val = segmentation(30, 1, ignored)
    labels = Labels("segmentation", CLASSES, ignore)
    probe, scores = run(labels, segmentation(60, 0, ignored), val)
    assert scores.metric == "mIoU"
    for layer, predicted in enumerate(predictions(probe, val[0])):
        choice = predicted.argmax(-1)
        options: Any = {"num_classes": CLASSES, "ignore_index": ignore}
        iou = multiclass_jaccard_index(choice, val[1], average="macro", **options)
        accuracy = multiclass_accuracy(choice, val[1], average="micro", **options)
        assert scores.values[layer] == pytest.approx(iou.item(), abs=1e-6)
        assert scores.others["pixel accuracy"][layer] == pytest.approx(accuracy.item(), abs=1e-6)


def test_the_layer_that_holds_the_classes_is_found() -> None:
    _, scores = run(Labels("segmentation", CLASSES, -1), segmentation(60, 0), segmentation(30, 1))
    # A tenth of the pixels is redrawn, a third of them to what they were: 0.93 / (1 + 0.07).
    assert scores.values[INFORMED] == pytest.approx(0.875, abs=0.02)
    others = [value for layer, value in enumerate(scores.values) if layer != INFORMED]
    # Chance is 1/3 of the pixels, an IoU of 0.2 at most.
    assert max(others) < 0.26


def test_what_is_ignored_changes_nothing() -> None:
    """Labels of ignored pixels, and features of tokens without a label, do not count."""
    labels = Labels("segmentation", CLASSES, -1)
    train, val = segmentation(60, 0, 0.3), segmentation(30, 1, 0.3)
    for _, mask in (train, val):
        mask[:, :CELL, :CELL] = -1
    _, scores = run(labels, train, val)
    for features, _ in (train, val):
        features[:, :, 0] = 1e6
    assert run(labels, train, val)[1].values == pytest.approx(scores.values)


@pytest.mark.parametrize("batch", [1, 4, 7])
@pytest.mark.parametrize("kind", ["segmentation", "regression"])
def test_batches_change_nothing(kind: Any, batch: int) -> None:
    make = segmentation if kind == "segmentation" else regression
    labels = Labels(kind, CLASSES, -9999)
    train, val = make(20, 0), make(9, 1)
    once, streamed = run(labels, train, val)[1], run(labels, train, val, batch)[1]
    assert streamed.penalties == once.penalties
    assert streamed.values == pytest.approx(once.values, abs=1e-6)


@pytest.mark.parametrize("kind", ["segmentation", "regression"])
def test_tiles_are_resampled(kind: Any) -> None:
    """Around the scores; in batches as at once; a resample holds whole tiles."""
    make = segmentation if kind == "segmentation" else regression
    labels = Labels(kind, CLASSES, -9999)
    train, val = make(40, 0), make(20, 1)
    once, streamed = run(labels, train, val)[1], run(labels, train, val, 3)[1]
    assert once.resamples is not None
    assert streamed.resamples is not None
    assert once.resamples.shape == (RESAMPLES, LAYERS)
    assert streamed.resamples == pytest.approx(once.resamples, abs=1e-6)
    middle, spread = once.resamples.mean(0), once.resamples.std(0)
    assert (abs(middle - once.values) < 2 * spread).all()
    # Tiles that are there twice differ as half as many do.
    twice = (val[0].repeat(1, 2, 1, 1), val[1].repeat(2, 1, 1))
    doubled = run(labels, train, twice)[1]
    assert doubled.values == pytest.approx(once.values, abs=1e-6)
    assert doubled.resamples is not None
    assert doubled.resamples.std(0) == pytest.approx(spread / 2**0.5, rel=0.25)


@pytest.mark.parametrize("kind", ["segmentation", "regression"])
def test_one_labelled_validation_tile_is_not_resampled(kind: Any) -> None:
    make = segmentation if kind == "segmentation" else regression
    features, mask = make(5, 1)
    mask[1:] = -9999
    scores = run(Labels(kind, CLASSES, -9999), make(40, 0), (features, mask))[1]
    assert scores.resamples is None


def test_folds_are_those_of_tiles() -> None:
    """With tiles that repeat, folds within tiles would leave nothing out and choose no penalty."""
    random = torch.Generator().manual_seed(0)
    features = torch.randn(1, 8, 1, 40, generator=random).expand(LAYERS, 8, 6, 40).clone()
    mask = torch.randn(8, 1, 1, generator=random).expand(8, 8, 12).double()
    probe = DenseProbe(Labels("regression"))
    probe.learn(features, mask, GRID, 0)
    probe.fit()
    # 40 features of 8 independent tiles: only the mean can be learnt.
    assert min(fit.penalty for fit in probe.fits) > 1


def test_r2_and_rmse_are_those_of_the_pixels() -> None:
    val = regression(15, 1)
    probe, scores = run(Labels("regression", ignore_index=-9999), regression(40, 0), val)
    assert scores.metric == "R2"
    valid = (val[1] != -9999) & ~val[1].isnan()
    for layer, predicted in enumerate(predictions(probe, val[0])[..., 0]):
        truth, guess = val[1][valid], predicted[valid] + probe._origin
        assert scores.values[layer] == pytest.approx(r2_score(truth, guess), abs=1e-9)
        rmse = (truth - guess).square().mean().sqrt().item()
        assert scores.others["RMSE"][layer] == pytest.approx(rmse)
    assert scores.values[INFORMED] > 0.98
    assert max(v for layer, v in enumerate(scores.values) if layer != INFORMED) < 0.1


def test_random_labels_teach_nothing() -> None:
    random = torch.Generator().manual_seed(5)
    train, val = segmentation(60, 0), segmentation(30, 1)
    shuffled = train[1][torch.randperm(60, generator=random)]
    _, scores = run(Labels("segmentation", CLASSES, -1), (train[0], shuffled), val)
    assert max(scores.values) < 0.26


def test_a_class_that_only_the_validation_tiles_hold_is_named() -> None:
    train, val = segmentation(40, 0), segmentation(10, 1)
    probe = DenseProbe(Labels("segmentation", CLASSES, -1))
    probe.learn(train[0], torch.where(train[1] == 2, 0, train[1]), GRID, 0)
    probe.fit()
    probe.validate(*val, GRID)
    scores, (doubt,) = probe.scores()
    assert "class 2 is in the validation tiles but in no training tile" in doubt
    assert max(scores.values) < 0.75


@pytest.mark.parametrize(
    ("kind", "mask", "message"),
    [
        ("segmentation", -1, "no pixel of the training tiles is labelled"),
        ("segmentation", 2, "hold class 2 only"),
        ("regression", 280.1, "are 280.1 everywhere: there is nothing to learn"),
    ],
)
def test_nothing_to_learn(kind: Any, mask: float, message: str) -> None:
    features, labels = segmentation(8, 0)
    probe = DenseProbe(Labels(kind, CLASSES, -1))
    probe.learn(
        features,
        torch.full_like(labels, mask, dtype=torch.float64).to(
            torch.float64 if kind == "regression" else torch.int64
        ),
        GRID,
        0,
    )
    with pytest.raises(ValueError, match=message):
        probe.fit()


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("segmentation", -1, "no pixel of the validation tiles is labelled"),
        ("regression", 3.0, "validation labels are 3 everywhere: R2 is"),
    ],
)
def test_nothing_to_judge(kind: Any, value: float, message: str) -> None:
    features, mask = segmentation(8, 0) if kind == "segmentation" else regression(8, 0)
    probe = DenseProbe(Labels(kind, CLASSES, -1))
    probe.learn(features, mask, GRID, 0)
    probe.fit()
    probe.validate(features, torch.full_like(mask, value), GRID)
    with pytest.raises(ValueError, match=message):
        probe.scores()


@pytest.mark.parametrize("kind", ["segmentation", "regression"])
def test_products_in_float32_are_enough(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on accelerators: features and labels far from 0 lose nothing."""
    make = segmentation if kind == "segmentation" else regression
    labels = Labels(kind, CLASSES, -9999)
    train, val = make(60, 0), make(30, 1)
    if kind == "regression":
        for _, mask in (train, val):
            mask[mask != -9999] += 20_000
    for features, _ in (train, val):
        features += 50
    _, expected = run(labels, train, val)
    make_stream = RidgeStream.__init__

    def single(self: RidgeStream, *arguments: Any) -> None:
        make_stream(self, *arguments)
        self.product = torch.float32

    monkeypatch.setattr(RidgeStream, "__init__", single)
    _, scores = run(labels, train, val, batch=8)
    assert scores.penalties == expected.penalties
    assert scores.values == pytest.approx(expected.values, abs=2e-3)
