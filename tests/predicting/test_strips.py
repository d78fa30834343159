from __future__ import annotations

import numpy as np
import pytest

from terratorch_simpler.predicting.strips import Strips
from terratorch_simpler.predicting.windows import Tiling, make_tiling
from terratorch_simpler.tiles.grid import Image


def outputs(tiling: Tiling, row: int, column: int) -> Image:
    random = np.random.default_rng((row, column))
    return random.normal(size=(2, tiling.rows.crop, tiling.columns.crop)).astype(np.float32)


def strips_of(tiling: Tiling, first: int = 0) -> list[Image]:
    strips = Strips(tiling, 2, first)
    found = []
    for row in range(first, len(tiling.rows.starts)):
        for column in range(len(tiling.columns.starts)):
            strips.add(tiling.place(row, column), outputs(tiling, row, column))
        found.append(strips.finish())
    return found


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("stride", [None, 12, 32])
def test_strips_are_the_weighted_mean_of_all_windows(stride: int | None, padding: bool) -> None:
    tiling = make_tiling((117, 75), (32, 32), stride, padding=padding)
    sums, weights = np.zeros((2, 117, 75)), np.zeros((117, 75))
    for row, column in tiling:
        placed = tiling.place(row, column)
        inside = outputs(tiling, row, column)[:, *placed.inside]
        sums[:, *placed.outside] += inside * placed.weights
        weights[placed.outside] += placed.weights
    found = np.concatenate(strips_of(tiling), axis=1)
    assert found.shape == (2, 117, 75)
    # Where nothing but the least weight of a window counts, float32 has three digits.
    assert np.abs(found - sums / weights).max() < 1e-3
    assert np.abs(found - sums / weights).mean() < 1e-6


@pytest.mark.parametrize("stride", [None, 12])
def test_strips_from_later_on_are_the_same(stride: int | None) -> None:
    tiling = make_tiling((117, 75), (32, 32), stride)
    whole = strips_of(tiling)
    for finished in range(1, len(whole)):
        begin = tiling.rows.first_touching(tiling.rows.starts[finished])
        again = strips_of(tiling, begin)[finished - begin :]
        assert len(again) == len(whole) - finished
        for one, other in zip(again, whole[finished:], strict=True):
            assert np.array_equal(one, other)


def test_nothing_is_0_where_no_window_was_added() -> None:
    tiling = make_tiling((40, 40), (32, 32))
    strip = Strips(tiling, 1).finish()
    assert (strip == 0).all()
