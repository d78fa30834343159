"""Probes of whole tiles: a ridge classifier on the mean token of each layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from terratorch_simpler.probing.dense import unseen_classes
from terratorch_simpler.probing.labels import Labels
from terratorch_simpler.probing.resampling import accuracies, average_precisions
from terratorch_simpler.probing.ridge import PENALTIES
from terratorch_simpler.results.probe import Scores

Array = NDArray[np.float32]
Scored = tuple[float, float, float, NDArray[Any]]
"""Two scores and the penalty of a layer, and its answer to each tile."""


class ClassProbe:
    """scikit-learn's ``RidgeClassifierCV`` on standardised features of each layer.

    The regularisation is chosen by leaving out one training tile at a time, which a ridge does in
    closed form: the one with the best accuracy, or with the least squared error where a tile can
    have several classes. The features of all tiles are kept: [layers, tiles, width] of 4 bytes.

    Args:
        labels: What the labels are.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self._train: list[tuple[Tensor, Tensor]] = []
        self._val: list[tuple[Tensor, Tensor]] = []
        self._left_out = 0

    def learn(self, features: Tensor, labels: Tensor, grid: tuple[int, int], first: int) -> None:
        """Add training tiles.

        Args:
            features: [layers, tiles, 1, width].
            labels: Of each tile, as :meth:`Labels.of` gives them.
            grid: Unused.
            first: Unused.
        """
        del grid, first
        self._train.append(self._labelled(features, labels))

    def validate(self, features: Tensor, labels: Tensor, grid: tuple[int, int]) -> None:
        """Add validation tiles; as :meth:`learn`."""
        del grid
        self._val.append(self._labelled(features, labels))

    def _labelled(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        features = features.squeeze(2).cpu()
        if self.labels.kind == "multilabel":
            wrong = labels[(labels != 0) & (labels != 1)]
            if len(wrong):
                raise ValueError(
                    f"the 'label' of a batch holds {int(wrong[0])}: multilabel needs 0 or 1 for "
                    "each class"
                )
            return features, labels
        kept = self.labels.counts(labels)
        wrong = labels[kept & ((labels < 0) | (labels >= (self.labels.num_classes or torch.inf)))]
        if len(wrong):
            raise ValueError(
                f"the labels hold class {int(wrong[0])}, but num_classes is "
                f"{self.labels.num_classes} and ignore_index {self.labels.ignore_index}: set them "
                "to fit the labels"
            )
        self._left_out += int((~kept).sum())
        return features[:, kept], labels[kept]

    def fit(self) -> None:
        """Check the training labels.

        Raises:
            ValueError: If there is nothing to tell apart.
        """
        labels = torch.cat([labels for _, labels in self._train])
        if len(labels) == 0:
            raise ValueError(
                f"all training tiles have the label {self.labels.ignore_index}, the ignore_index: "
                "check the labels"
            )
        if (labels == labels[0]).all() if labels.ndim == 1 else (labels == labels[:1]).all():
            raise ValueError(
                f"all {len(labels)} training tiles have the label {labels[0].tolist()}: there is "
                "nothing to tell apart, use more tiles"
            )

    def scores(self, seed: int = 0) -> tuple[Scores, list[str]]:
        """Fit and score all layers; what to know before trusting the scores comes with them.

        Args:
            seed: Of the resamples.

        Raises:
            ValueError: If no validation tile is labelled.
        """
        train, val = (torch.cat([y for _, y in part]).numpy() for part in (self._train, self._val))
        if len(val) == 0:
            raise ValueError("no validation tile is labelled: check their labels")
        several = self.labels.kind == "multilabel"
        if several and train.shape[1] != val.shape[1]:
            raise ValueError(
                f"training tiles have {train.shape[1]} labels, validation tiles {val.shape[1]}"
            )
        if several and not val.any():
            raise ValueError(
                "no validation tile has any of the labels: average precision needs one"
            )
        score = _multilabel if several else _single
        found: list[Scored] = []
        for layer in range(len(self._train[0][0])):
            x, z = (torch.cat([f[layer] for f, _ in p]).numpy() for p in (self._train, self._val))
            found.append(score(x, train, z, val))
        main, other, penalties = (list(column) for column in list(zip(*found, strict=True))[:3])
        answers = np.stack([answer for *_, answer in found])
        resamples: NDArray[np.float64] | None
        if several:
            resamples = average_precisions(answers, val[:, val.any(0)], seed)
            absent = np.flatnonzero(val.any(0) & ~train.any(0)).tolist()
            names = ("average precision", "macro F1")
        else:
            resamples = accuracies(answers, seed)
            absent = sorted(set(val.tolist()) - set(train.tolist()))
            names = ("accuracy", "macro F1")
        said = unseen_classes(absent)
        if self._left_out:
            said.append(
                f"{self._left_out} tiles are left out: their label is {self.labels.ignore_index}, "
                "the ignore_index, or NaN"
            )
        return Scores(names[0], main, {names[1]: other}, penalties, resamples), said


def _fit(x: Array, y: NDArray[np.int64], scoring: str | None) -> tuple[object, float]:
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    alphas = [len(x) * penalty for penalty in PENALTIES]
    ridge = RidgeClassifierCV(alphas, scoring=scoring)
    model = make_pipeline(StandardScaler(), ridge).fit(x.astype(np.float64), y)
    return model, float(ridge.alpha_ / len(x))


def _single(x: Array, y: NDArray[np.int64], z: Array, truth: NDArray[np.int64]) -> Scored:
    """Accuracy, macro F1 and the penalty of one layer, and which tiles are classified right."""
    from sklearn.metrics import accuracy_score, f1_score

    model, penalty = _fit(x, y, "accuracy")
    predicted = model.predict(z.astype(np.float64))  # type: ignore[attr-defined]
    f1 = f1_score(truth, predicted, average="macro", zero_division=0)
    return float(accuracy_score(truth, predicted)), float(f1), penalty, predicted == truth


def _multilabel(x: Array, y: NDArray[np.int64], z: Array, truth: NDArray[np.int64]) -> Scored:
    """Macro average precision, macro F1 and the penalty of one layer, and what it decides.

    Both scores are means over the classes that the validation tiles hold: of others there is no
    precision.
    """
    from sklearn.metrics import average_precision_score, f1_score

    model, penalty = _fit(x, y.ravel() if y.shape[1] == 1 else y, None)
    decided = model.decision_function(z.astype(np.float64))  # type: ignore[attr-defined]
    decided = decided.reshape(truth.shape)
    there = truth.any(0)
    truth, decided = truth[:, there], decided[:, there]
    precision = average_precision_score(truth, decided, average="macro")
    f1 = f1_score(truth, decided > 0, average="macro", zero_division=0)
    return float(precision), float(f1), penalty, decided
