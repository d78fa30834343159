"""The streamed ridge against scikit-learn's, on features with an offset and very unequal scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from terratorch_simpler.probing.ridge import FOLDS, PENALTIES, RidgeStream, Sums

LAYERS, N, WIDTH, TARGETS = 3, 200, 12, 2
CPU = torch.device("cpu")
Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features [layers, n, width], weights [n] with zeros, targets [n, targets], folds [n]."""
    random = torch.Generator().manual_seed(0)
    features = torch.randn(LAYERS, N, WIDTH, generator=random)
    targets = features[1, :, :TARGETS] + 0.8 * torch.randn(N, TARGETS, generator=random) + 5
    features = features * torch.logspace(-2, 2, WIDTH) + torch.linspace(-300, 300, WIDTH)
    weights = torch.randint(0, 4, (N,), generator=random).double()
    return features, weights, targets.double(), torch.randint(0, FOLDS, (N,), generator=random)


def stream(data: tuple[Tensor, ...], batch: int = N) -> RidgeStream:
    found = RidgeStream(LAYERS, WIDTH, TARGETS, CPU)
    parts = (torch.split(value, batch, dim=int(value.ndim == 3)) for value in data)
    for part in zip(*parts, strict=True):
        features, weights, targets, folds = part
        features = found.features(features)
        for fold in range(FOLDS):
            own = folds == fold
            w, y = weights[own], targets[own]
            found.add(fold, features[:, own], w, w[:, None] * y, w * y.square().sum(-1))
    return found


def sklearn_ridge(x: Array, y: Array, w: Array, penalty: float) -> Any:
    scaler = StandardScaler().fit(x, sample_weight=w)
    ridge = Ridge(alpha=penalty * w.sum()).fit(scaler.transform(x), y, sample_weight=w)
    return lambda new: ridge.predict(scaler.transform(new))


def held_out_loss(x: Array, y: Array, w: Array, folds: Array, penalty: float, classes: bool) -> Any:
    """The squared error, or minus the correlation of what is centred fold by fold."""
    products = np.zeros(3)
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        p = sklearn_ridge(x[train], y[train], w[train], penalty)(x[test])
        t, v = y[test], w[test]
        if classes:
            p, t = (value - np.average(value, axis=0, weights=v) for value in (p, t))
        products += [(v[:, None] * a * b).sum() for a, b in ((t, t), (t, p), (p, p))]
    yy, yp, pp = products
    return -yp / np.sqrt(yy * pp) if classes else yy - 2 * yp + pp


@pytest.mark.parametrize("classes", [False, True])
def test_it_is_the_ridge_of_scikit_learn_with_the_penalty_of_its_cross_validation(
    data: tuple[Tensor, ...], classes: bool
) -> None:
    features, weights, targets, folds = data
    found = stream(data)
    new = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(1)) * 50
    shifted = found.features(new.expand(LAYERS, -1, -1))
    chosen = set()
    for layer, fit in enumerate(found.fit(classes=classes)):
        x, y, w = (value.double().numpy() for value in (features[layer], targets, weights))
        losses = [held_out_loss(x, y, w, folds.numpy(), p, classes) for p in PENALTIES]
        assert fit.penalty == PENALTIES[int(np.argmin(losses))]
        chosen.add(fit.penalty)
        expected = sklearn_ridge(x, y, w, fit.penalty)(new.double().numpy())
        np.testing.assert_allclose(shifted[layer] @ fit.weights, expected, rtol=1e-6, atol=1e-8)
    # Layers that say nothing want more of it than the one that the targets come from.
    assert len(chosen) > 1


@pytest.mark.parametrize("batch", [1, 7])
def test_batches_change_nothing(data: tuple[Tensor, ...], batch: int) -> None:
    once, streamed = stream(data), stream(data, batch)
    new = data[0][:, :5]
    fits = zip(once.fit(False), streamed.fit(False), strict=True)
    features = zip(once.features(new), streamed.features(new), strict=True)
    for (a, b), (x, y) in zip(fits, features, strict=True):
        assert a.penalty == b.penalty
        torch.testing.assert_close(x @ a.weights, y @ b.weights, rtol=1e-5, atol=1e-6)


def test_the_memory_does_not_grow(data: tuple[Tensor, ...]) -> None:
    found = stream(data)
    before = [value.shape for value in vars(found.folds()).values()]
    features, weights, targets, _ = data
    found.add(0, found.features(features), weights, targets, targets.square().sum(-1))
    assert [value.shape for value in vars(found.folds()).values()] == before
    assert not [v for v in vars(found).values() if isinstance(v, list)]


def test_features_that_do_not_vary_get_no_weight_and_do_no_harm(data: tuple[Tensor, ...]) -> None:
    features = data[0].clone()
    features[..., 3] = 1234.5
    plain = stream((features, *data[1:])).fit(False)
    reduced = features.clone()
    reduced[..., 3] = 0
    for fit, other in zip(plain, stream((reduced, *data[1:])).fit(False), strict=True):
        assert fit.weights.isfinite().all()
        assert (fit.weights[3] == 0).all()
        torch.testing.assert_close(fit.weights[:3], other.weights[:3])


def test_products_are_those_of_predictions_and_targets() -> None:
    random = torch.Generator().manual_seed(2)
    x = torch.cat([torch.randn(30, 4, generator=random), torch.ones(30, 1)], dim=1).double()
    y, weights = torch.randn(30, 2, generator=random).double(), torch.randn(5, 2).double()
    sums = Sums(x.T @ x, x.T @ y, y.square().sum())
    p = x @ weights
    expected = [(a * b).sum() for a, b in ((y, y), (y, p), (p, p))]
    torch.testing.assert_close(sums.products(weights, False), torch.stack(expected))
    y, p = y - y.mean(0), p - p.mean(0)
    expected = [(a * b).sum() for a, b in ((y, y), (y, p), (p, p))]
    torch.testing.assert_close(sums.products(weights, True), torch.stack(expected))


def test_one_fold_is_too_few(data: tuple[Tensor, ...]) -> None:
    features, weights, targets, folds = data
    with pytest.raises(ValueError, match="fewer than two parts of the training tiles"):
        stream((features, weights, targets, torch.zeros_like(folds))).fit(False)


def test_the_number_of_threads_changes_nothing_and_is_left_as_it_was(
    data: tuple[Tensor, ...],
) -> None:
    before = torch.get_num_threads()
    fits = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            fits.append(stream(data).fit(True))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for one, several in zip(*fits, strict=True):
        assert one.penalty == several.penalty
        torch.testing.assert_close(one.weights, several.weights)
