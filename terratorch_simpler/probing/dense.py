"""Probes of dense tasks: a ridge on the tokens of each layer, its predictions spread to pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from terratorch_simpler.probing.labels import Cells, Labels, cells_of
from terratorch_simpler.probing.resampling import BlockSums, jaccards, r2s
from terratorch_simpler.probing.ridge import FOLDS, Fit, RidgeStream
from terratorch_simpler.results.probe import Scores


class CountedJaccard(MulticlassJaccardIndex):
    """TerraTorch's mIoU, from counts of pixels instead of the pixels."""

    confmat: Tensor

    def update(self, confusion: Tensor, _: Any = None) -> None:
        """Add pixels.

        Args:
            confusion: Number of pixels of each class, by what was predicted of them:
                [classes, predicted classes].
        """
        self.confmat += confusion


class DenseProbe:
    """A closed-form ridge on the tokens of each layer.

    The targets of a token are what the pixels under it sum up to, its weight their number: for
    segmentation how many are of each class, for regression the sum of their values. What is
    predicted for a token holds for all its pixels, so that sums over a token's pixels give the
    metrics of all pixels exactly.

    Args:
        labels: What the labels are.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.stream: RidgeStream | None = None
        self.fits: list[Fit] = []
        self._origin: float | None = None
        self._counts = torch.zeros(0)
        self._blocks = BlockSums()
        self._learned = self._validated = torch.zeros(0)

    def learn(self, features: Tensor, mask: Tensor, grid: tuple[int, int], first: int) -> None:
        """Add training tiles.

        Args:
            features: [layers, tiles, cells, width].
            mask: Labels of the tiles' pixels, [tiles, height, width].
            grid: Rows and columns of cells.
            first: Place of the first of these tiles among all, which says which are left out
                together when the regularisation is chosen.
        """
        cells = self._cells(mask, grid)
        if self.stream is None:
            layers, width = features.shape[0], features.shape[-1]
            targets = cells.sums.shape[-1]
            self.stream = RidgeStream(layers, width, targets, features.device)
            self._learned = torch.zeros(targets + 2, dtype=torch.float64)
        self._learned += _total(cells)
        # Tokens without a label would be products with 0.
        labelled = (cells.pixels > 0).flatten()
        if not labelled.any():
            return
        rows = self.stream.features(features.flatten(1, 2)[:, labelled.to(features.device)])
        pixels, sums, squares = _chosen(cells, labelled)
        fold = (first + torch.arange(len(mask))) % FOLDS
        fold = fold[:, None].expand_as(cells.pixels).flatten()[labelled]
        for number in range(FOLDS):
            own = fold == number
            if own.any():
                values = (value[own] for value in (pixels, sums, squares))
                self.stream.add(number, rows[:, own.to(rows.device)], *values)

    def _cells(self, mask: Tensor, grid: tuple[int, int]) -> Cells:
        """Labels by token. Numbers are taken from the mean of the first ones.

        So that float32 keeps what varies of elevations or temperatures; no metric changes.
        """
        cells = cells_of(mask, grid, self.labels)
        if self.labels.kind == "segmentation":
            return cells
        if self._origin is None and cells.pixels.any():
            self._origin = float(cells.sums.sum() / cells.pixels.sum())
        return cells.less(self._origin or 0.0)

    def fit(self) -> None:
        """Fit all layers.

        Raises:
            ValueError: If there is nothing to learn from.
        """
        pixels, sums, squares = self._learned[0], self._learned[1:-1], self._learned[-1]
        if self.stream is None or pixels == 0:
            raise ValueError(
                "no pixel of the training tiles is labelled (all are ignore_index "
                f"{self.labels.ignore_index}): check the labels, or use more tiles"
            )
        if self.labels.kind == "segmentation":
            present = sums.nonzero().flatten().tolist()
            if len(present) == 1:
                raise ValueError(
                    f"the training labels hold class {present[0]} only: there is nothing to tell "
                    "apart, use more tiles"
                )
        elif self._spread(pixels, sums, squares) <= 0:
            raise ValueError(
                f"the training labels are {self._mean(sums, pixels):g} everywhere: there is "
                "nothing to learn"
            )
        self.fits = self.stream.fit(classes=self.labels.kind == "segmentation")
        layers, targets = len(self.fits), len(sums)
        self._counts = torch.zeros(layers, targets, targets, dtype=torch.float64)
        self._validated = torch.zeros_like(self._learned)

    def validate(self, features: Tensor, mask: Tensor, grid: tuple[int, int]) -> None:
        """Predict validation tiles and add up how far off it is; as :meth:`learn`."""
        assert self.stream is not None
        cells = self._cells(mask, grid)
        self._validated += _total(cells)
        labelled = (cells.pixels > 0).flatten()
        blocks = self._blocks.of(cells.pixels > 0)
        if not labelled.any():
            return
        shifted = self.stream.features(features.flatten(1, 2)[:, labelled.to(features.device)])
        weights = torch.stack([fit.weights for fit in self.fits])
        predicted = (shifted @ weights.to(shifted)).cpu().double()
        pixels, sums, squares = _chosen(cells, labelled)
        if self.labels.kind == "segmentation":
            choice = torch.nn.functional.one_hot(predicted.argmax(-1), sums.shape[-1]).double()
            self._counts += sums.T @ choice
            overlap = sums * choice
            union = sums + pixels[:, None] * choice - overlap
            self._blocks.add(blocks, overlap=overlap, union=union)
        else:
            value = predicted[..., 0]
            # The sum over a token's pixels of (y - value)^2.
            errors = squares - 2 * value * sums[:, 0] + pixels * value.square()
            totals = torch.stack([pixels, sums[:, 0], squares], dim=-1)
            self._blocks.add(blocks, errors=errors[..., None], totals=totals)

    def scores(self, seed: int = 0) -> tuple[Scores, list[str]]:
        """Scores of all layers, and what to know before trusting them.

        Args:
            seed: Of the resamples.

        Raises:
            ValueError: If no validation pixel is labelled, or all have one value.
        """
        pixels, sums, squares = self._validated[0], self._validated[1:-1], self._validated[-1]
        if pixels == 0:
            raise ValueError(
                "no pixel of the validation tiles is labelled (all are ignore_index "
                f"{self.labels.ignore_index}): check their labels"
            )
        penalties = [fit.penalty for fit in self.fits]
        if self.labels.kind == "regression":
            spread = self._spread(pixels, sums, squares)
            if spread <= 0:
                raise ValueError(
                    f"the validation labels are {self._mean(sums, pixels):g} everywhere: R2 is the "
                    "share of their variance that is explained, and they have none"
                )
            by_block, totals = self._blocks["errors"].squeeze(-1), self._blocks["totals"]
            errors = torch.from_numpy(by_block.sum(-1))
            r2 = (1 - errors / spread).tolist()
            rmse = (errors / pixels).clamp_min(0).sqrt().tolist()
            resamples = r2s(by_block, totals, seed)
            return Scores("R2", r2, {"RMSE": rmse}, penalties, resamples), []
        accuracy = (self._counts.diagonal(dim1=1, dim2=2).sum(-1) / pixels).tolist()
        others = {"pixel accuracy": accuracy}
        miou = [self._miou(counts) for counts in self._counts]
        unseen = ((sums > 0) & (self._learned[1:-1] == 0)).nonzero().flatten().tolist()
        overlap, union = self._blocks["overlap"], self._blocks["union"]
        resamples = jaccards(overlap, union, self.labels.ignore_index, seed)
        return Scores("mIoU", miou, others, penalties, resamples), unseen_classes(unseen)

    def _mean(self, sums: Tensor, pixels: Tensor) -> float:
        return float(sums[0] / pixels) + (self._origin or 0.0)

    def _spread(self, pixels: Tensor, sums: Tensor, squares: Tensor) -> Tensor:
        """Sum of squared deviations from the mean; 0 where that is rounding."""
        spread = squares - sums[0].square() / pixels
        size = squares + pixels * (self._origin or 0.0) ** 2
        return torch.where(spread > 1e-12 * size, spread, 0.0)

    def _miou(self, counts: Tensor) -> float:
        metric = CountedJaccard(
            counts.shape[-1], average="macro", ignore_index=self.labels.ignore_index
        )
        metric.update(counts.long())
        return float(metric.compute())


def unseen_classes(classes: list[int]) -> list[str]:
    """What to say of classes that only the validation tiles hold."""
    if not classes:
        return []
    return [
        f"class {', '.join(map(str, classes))} is in the validation tiles but in no training tile, "
        "and counts as missed at every depth: use more training tiles, or another split"
    ]


def _chosen(cells: Cells, labelled: Tensor) -> Iterator[Tensor]:
    """Pixels, sums and squares of the cells that are labelled, [n, ...]."""
    for value in (cells.pixels, cells.sums, cells.squares):
        yield value.flatten(0, 1)[labelled]


def _total(cells: Cells) -> Tensor:
    parts = (cells.pixels.sum()[None], cells.sums.sum((0, 1)), cells.squares.sum()[None])
    return torch.cat(parts)
