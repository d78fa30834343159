"""Statistics of layers against loops in 64 bits, whatever the batches and processes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from terratorch_simpler.backbones.backbone import load_backbone
from terratorch_simpler.layers.sampler import LayerSampler, partners, without_partners
from terratorch_simpler.layers.statistics import (
    STATISTICS,
    LayerStatistics,
    neighbour_overlap,
    participation_ratio,
    rank_me,
    spatial_contrast,
)
from terratorch_simpler.precision import full_float32
from terratorch_simpler.similarity import centered_grams

Array = NDArray[np.float64]


def cosine(one: Array, other: Array) -> float:
    return float(one @ other / math.sqrt(float(one @ one) * float(other @ other)))


def naive_contrast(tokens: Array, places: list[list[int]], rows: int, columns: int) -> float:
    """From the definition, for one layer.

    Args:
        tokens: Patch tokens of some tiles, [tiles, frames * rows * columns, width].
        places: The tokens of each tile that are looked at.
    """
    looked_at, pairs = [], []
    for tile, of_tile in zip(tokens, places, strict=True):
        for place in of_tile:
            frame, cell = divmod(place, rows * columns)
            row, column = divmod(cell, columns)
            across = column + 1 if column + 1 < columns else column - 1
            down = row + 1 if row + 1 < rows else row - 1
            cells = [
                row * columns + across,
                down * columns + column,
                row * columns + (column + columns // 2) % columns,
                (row + rows // 2) % rows * columns + column,
            ]
            others = [tile[frame * rows * columns + other] for other in cells]
            pairs.append((tile[place], others))
            looked_at += [tile[place], *others]
    mean = np.mean(looked_at, axis=0)
    beside = [cosine(a - mean, b - mean) for a, others in pairs for b in others[:2]]
    apart = [cosine(a - mean, b - mean) for a, others in pairs for b in others[2:]]
    return float(np.mean(beside) - np.mean(apart))


@pytest.mark.parametrize(
    ("frames", "rows", "columns", "width"), [(1, 4, 4, 8), (3, 5, 7, 6), (2, 14, 14, 48)]
)
def test_spatial_contrast_follows_the_definition(
    frames: int, rows: int, columns: int, width: int
) -> None:
    rng = np.random.default_rng(0)
    count = frames * rows * columns
    tokens = rng.normal(size=(3, 6, count, width)).cumsum(axis=2) + 5
    places = np.stack([rng.permutation(count)[:8] for _ in range(6)])
    of_tile = np.arange(6)[:, None]
    anchors = tokens[:, of_tile, places]
    others = tokens[:, of_tile[..., None], partners(places, rows, columns)]
    # Importing TerraTorch has CPUs with units for bf16 multiply in it.
    with full_float32():
        found = spatial_contrast(
            torch.from_numpy(anchors).float(), torch.from_numpy(others).float()
        )
    expected = [naive_contrast(layer, places.tolist(), rows, columns) for layer in tokens]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def naive_statistics(samples: Array, before: Array) -> tuple[float, float, float]:
    """Participation ratio, RankMe and neighbour overlap of one layer, from its samples."""
    centred = samples - samples.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    ratio = (values**2).sum() ** 2 / (values**4).sum()
    shares = values[values > 0] / values.sum()
    near = []
    step = max(1, len(samples) // 64)
    for layer in (samples, before):
        distances = ((layer[:, None] - layer[None]) ** 2).sum(-1)
        np.fill_diagonal(distances, np.inf)
        near.append([set(row) for row in np.argsort(distances, axis=1)[::step, :10].tolist()])
    overlap = np.mean([len(a & b) / 10 for a, b in zip(*near, strict=True)])
    return float(ratio), float(np.exp(-(shares * np.log(shares)).sum())), float(overlap)


@pytest.mark.parametrize(("samples", "width"), [(16, 5), (64, 48), (256, 12)])
def test_other_statistics_follow_their_definitions(samples: int, width: int) -> None:
    rng = np.random.default_rng(1)
    layers = rng.normal(size=(4, samples, width)).cumsum(axis=0) * np.linspace(1, 5, width)
    grams = centered_grams([*torch.from_numpy(layers).float()])
    found = np.stack([participation_ratio(grams), rank_me(grams), neighbour_overlap(grams)], axis=1)
    for layer in range(1, 4):
        expected = naive_statistics(layers[layer], layers[layer - 1])
        np.testing.assert_allclose(found[layer], expected, rtol=2e-4)
    assert found[0, 2] == 1


def test_a_constant_layer_has_no_directions_and_no_contrast() -> None:
    grams = centered_grams([torch.ones(16, 3)])
    assert participation_ratio(grams).item() == rank_me(grams).item() == 0
    assert spatial_contrast(torch.ones(1, 4, 2, 3), torch.ones(1, 4, 2, 4, 3)).item() == 0


def filled(groups: list[int], samples: Tensor) -> LayerStatistics:
    """The metric of a process that has some of the groups [groups, layers, tiles, 4 + 16, 6]."""
    metric = LayerStatistics(samples.shape[1])
    for group in groups:
        drawn = without_partners(samples[group], 4)
        grams = centered_grams([*drawn.flatten(1, 2)])
        others = samples[group, :, :, 4:].unflatten(2, (4, 4))  # type: ignore[no-untyped-call]
        metric.update(grams, drawn, others, group)
    return metric


def test_groups_of_several_processes_are_those_of_one() -> None:
    samples = torch.randn(5, 3, 4, 20, 6, generator=torch.Generator().manual_seed(0))
    alone = filled([0, 1, 2, 3, 4], samples)
    first, second = filled([0, 2, 4], samples), filled([1, 3], samples)
    together = LayerStatistics(3)
    together.terms = [*first.terms, *second.terms]
    together.groups = [*first.groups, *second.groups]
    for name, values in alone.group_values().items():
        torch.testing.assert_close(together.group_values()[name], values, equal_nan=True)
    assert alone.compute().keys() == set(STATISTICS)
    replaced = filled([0, 1, 1], samples)
    assert replaced.group_values()["participation"].shape == (2, 3)


@pytest.mark.parametrize("batch", [1, 3])
def test_partners_do_not_depend_on_batches_and_lie_where_they_should(
    build: Any, batch: int
) -> None:
    backbone = load_backbone(build("prithvi_eo_tiny", img_size=64, num_frames=1))
    tiles = torch.randn(5, 6, 64, 64, generator=torch.Generator().manual_seed(3))
    with LayerSampler(backbone, "tokens", 6, seed=0, anchors=2) as sampler:
        whole = sampler(tiles, range(5))
        parts = [
            sampler(tiles[start : start + batch], range(start, min(start + batch, 5)))
            for start in range(0, 5, batch)
        ]
    assert sampler.no_partners is None
    assert whole.shape[2] == 6 + 4 * 2
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-4)
    with LayerSampler(backbone, "tokens", 6, seed=0) as plain:
        torch.testing.assert_close(plain(tiles, range(5)), without_partners(whole, 2))


def test_tiles_without_room_have_no_partners(build: Any) -> None:
    backbone = load_backbone(build("prithvi_eo_tiny", img_size=32))
    with LayerSampler(backbone, "tokens", 16, seed=0, anchors=8) as sampler:
        samples = sampler(torch.randn(2, 6, 32, 32), range(2))
    assert sampler.no_partners == "tiles of 2 x 2 tokens are too small"
    assert samples.shape[2] == 4 + 4 * 4
    assert without_partners(samples, 8).shape[2] == 4
