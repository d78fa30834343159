"""Closed-form ridge regression for all layers at once, from sums that stream past.

Ridge with weights w minimises ``sum_i w_i |y_i - x_i b - a|^2 / n + penalty |b|^2`` with
``n = sum_i w_i`` over features x of mean 0 and standard deviation 1; the intercept a is free. With
the weighted correlations R of the features and the covariances c of features and targets,
``b = (R + penalty)^-1 c`` (Hastie, Tibshirani, Friedman 2009, The Elements of Statistical Learning,
section 3.4.1). R and c follow from the sums of w x x', w x y' and w x, and so does the error on
tiles that were left out.
This is scikit-learn's ``Ridge(alpha=n * penalty)`` behind a ``StandardScaler``, both weighted.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

FOLDS = 4
"""Parts of the training tiles: each is left out once to choose the penalty."""

PENALTIES = tuple(10.0 ** (power / 2) for power in range(-10, 5))
"""Per observation: a penalty of 1 halves the weight of a feature that correlates with no other."""

CONSTANT = 1e-6
"""A feature whose variance is below this share of its mean square does not vary: it is rounding."""


@dataclass(frozen=True)
class Sums:
    """Sums over weighted observations; a feature of 1 stands last, for the intercept. float64.

    Attributes:
        gram: Sum of w x x', [..., width + 1, width + 1].
        cross: Sum of w x y', [..., width + 1, targets].
        squares: Sum of w y'y, [...].
    """

    gram: Tensor
    cross: Tensor
    squares: Tensor

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.gram - other.gram, self.cross - other.cross, self.squares - other.squares)

    def at(self, *index: int) -> Sums:
        """Those of one layer, or of one layer and fold."""
        return Sums(self.gram[index], self.cross[index], self.squares[index[1:]])

    def products(self, weights: Tensor, centred: bool) -> Tensor:
        """Products of targets y and predictions p on the observations of these sums.

        Args:
            weights: Of a fit, [width + 1, targets].
            centred: Take the means of y and p over these observations off first.

        Returns:
            Sums of w y'y, w y'p and w p'p, [3].
        """
        n, product = self.gram[-1, -1], self.gram @ weights
        found = torch.stack([self.squares, (weights * self.cross).sum(), (weights * product).sum()])
        if centred:
            y, p = self.cross[-1], product[-1]
            found = found - torch.stack([y @ y, y @ p, p @ p]) / n
        return found


@dataclass(frozen=True)
class Fit:
    """The ridge of one layer.

    Attributes:
        weights: [width + 1, targets], the intercept last. float64.
        penalty: The one chosen.
    """

    weights: Tensor
    penalty: float


class RidgeStream:
    """Collects the sums of every layer and fold, in memory that does not grow with the tiles.

    Args:
        layers: Number of layers.
        width: Features of a token.
        targets: Number of targets.
        device: Where the features are. Products are taken there, in float64 on the CPU and else in
            float32, since most accelerators are slow or unable in float64.
    """

    def __init__(self, layers: int, width: int, targets: int, device: torch.device) -> None:
        self.product = torch.float64 if device.type == "cpu" else torch.float32
        # Apple's GPUs have no float64.
        self.home = torch.device("cpu") if device.type == "mps" else device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=self.home)

        self._gram = zeros(layers, FOLDS, width + 1, width + 1)
        self._cross = zeros(layers, FOLDS, width + 1, targets)
        self._squares = zeros(FOLDS)
        self._shift: Tensor | None = None

    def features(self, features: Tensor) -> Tensor:
        """Features as the fits take them: [layers, n, width] to [layers, n, width + 1].

        The mean of the first ones is taken off, so that float32 keeps what varies.
        """
        if self._shift is None:
            self._shift = features.mean(dim=1, keepdim=True)
        shifted = (features - self._shift).to(self.product)
        return torch.nn.functional.pad(shifted, (0, 1), value=1.0)

    def add(
        self, fold: int, features: Tensor, weights: Tensor, sums: Tensor, squares: Tensor
    ) -> None:
        """Add observations.

        Args:
            fold: Which one they belong to.
            features: [layers, n, width + 1], from :meth:`features`.
            weights: Weight of each, [n]: the pixels of a token.
            sums: Its weighted targets, [n, targets].
            squares: Sum of the squared targets of its pixels, [n].
        """
        weighted = features * weights.to(features)[:, None]
        gram = weighted.transpose(1, 2) @ features
        cross = features.transpose(1, 2) @ sums.to(features)
        self._gram[:, fold] += gram.to(self.home)
        self._cross[:, fold] += cross.to(self.home)
        self._squares[fold] += squares.sum().to(self.home)

    def folds(self) -> Sums:
        """The sums so far: [layers, folds, ...], the squares [folds]."""
        return Sums(self._gram, self._cross, self._squares)

    def fit(self, classes: bool) -> list[Fit]:
        """The ridge of every layer, its penalty chosen on folds left out.

        Args:
            classes: Whether the targets are classes; see :func:`fit_layer`.

        Raises:
            ValueError: If fewer than two folds hold labelled observations.
        """
        folds = self.folds()
        used = [fold for fold in range(FOLDS) if folds.gram[0, fold, -1, -1] > 0]
        if len(used) < 2:
            raise ValueError(
                "labelled pixels are in fewer than two parts of the training tiles, too few to "
                "choose a regularisation: give more labelled tiles"
            )

        def fit_one(layer: int) -> Fit:
            return fit_layer([folds.at(layer, fold) for fold in used], classes)

        return _map(fit_one, len(self._gram), self.home)


def _map(fit_one: Callable[[int], Fit], layers: int, device: torch.device) -> list[Fit]:
    """Fit all layers, on the CPU one layer a thread.

    Several threads for each of thousands of small products wait for each other most of the time: on
    two busy cores that took 160 times as long.
    """
    if device.type != "cpu":
        return [fit_one(layer) for layer in range(layers)]
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
            return list(pool.map(fit_one, range(layers)))
    finally:
        torch.set_num_threads(threads)


def fit_layer(folds: list[Sums], classes: bool) -> Fit:
    """The ridge of one layer.

    For numbers, the penalty with the smallest squared error on the folds left out is chosen. Which
    class has the largest prediction does not change with the scale of the predictions, but the
    squared error does: where it is large it asks for predictions near the mean, and for penalties
    at which rare classes are lost. For classes, the penalty with the largest correlation of
    predictions and targets is chosen instead, which does not see the scale.

    Args:
        folds: Its sums on each part of the tiles, none of them empty.
        classes: Whether the targets are classes.
    """
    total = Sums(
        torch.stack([fold.gram for fold in folds]).sum(0),
        torch.stack([fold.cross for fold in folds]).sum(0),
        torch.stack([fold.squares for fold in folds]).sum(0),
    )
    products = {penalty: torch.zeros(3, dtype=torch.float64) for penalty in PENALTIES}
    for held_out in folds:
        for penalty, weights in solve(total - held_out, PENALTIES).items():
            products[penalty] += held_out.products(weights, centred=classes).cpu()

    def loss(penalty: float) -> float:
        yy, yp, pp = products[penalty].tolist()
        if classes:
            # Without any spread of predictions there is no correlation.
            return float(-yp / max(yy * pp, 1e-300) ** 0.5)
        return float(yy - 2 * yp + pp)

    # Of equal ones the strongest, as where no feature helps.
    chosen = min(reversed(PENALTIES), key=loss)
    return Fit(solve(total, (chosen,))[chosen], chosen)


def solve(sums: Sums, penalties: tuple[float, ...]) -> dict[float, Tensor]:
    """Weights of the ridge for each penalty: [width + 1, targets], the intercept last."""
    n = sums.gram[-1, -1]
    mean, target_mean = sums.gram[-1, :-1] / n, sums.cross[-1] / n
    second = sums.gram[:-1, :-1] / n
    covariance = second - torch.outer(mean, mean)
    variance, square = covariance.diagonal(), second.diagonal()
    varies = variance > CONSTANT * square
    # As scikit-learn: what does not vary is not scaled, and gets no weight.
    scale = torch.where(varies, variance.clamp_min(0).sqrt(), torch.inf)
    correlation = covariance / torch.outer(scale, scale)
    cross = (sums.cross[:-1] / n - torch.outer(mean, target_mean)) / scale[:, None]
    eye = torch.eye(len(scale), dtype=sums.gram.dtype, device=sums.gram.device)
    found = {}
    for penalty in penalties:
        root = torch.linalg.cholesky(correlation + penalty * eye)
        weights = torch.cholesky_solve(cross, root) / scale[:, None]
        intercept = target_mean - mean @ weights
        found[penalty] = torch.cat([weights, intercept[None]])
    return found
