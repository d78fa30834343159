from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from terratorch_simpler.predicting.windows import Tiling, make_tiling, reflected


def covered(tiling: Tiling, size: tuple[int, int]) -> NDArray[np.int64]:
    """How many windows count at each pixel."""
    count = np.zeros(size, np.int64)
    for row, column in tiling:
        placed = tiling.place(row, column)
        inside = [part.stop - part.start for part in placed.inside]
        outside = [part.stop - part.start for part in placed.outside]
        assert inside == outside == list(placed.weights.shape)
        count[placed.outside] += 1
    return count


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize(("stride", "delta"), [(None, None), (64, 0), (20, 8), (48, 8), (1, 31)])
@pytest.mark.parametrize("height", [1, 5, 49, 50, 63, 64, 65, 66, 81, 113, 128, 129])
def test_every_pixel_is_in_a_window(
    height: int, stride: int | None, delta: int | None, padding: bool
) -> None:
    for size in ((height, 90), (90, height), (height, height)):
        tiling = make_tiling(size, (64, 64), stride, delta, padding)
        assert covered(tiling, size).min() >= 1


def test_defaults_are_those_of_terratorch_in_proportion() -> None:
    for crop, stride, delta in ((224, 192, 8), (512, 439, 18), (112, 96, 4), (32, 27, 1)):
        rows = make_tiling((2000, 2000), (crop, crop)).rows
        assert (rows.stride, rows.delta) == (stride, delta)


def test_the_border_is_what_a_long_stride_leaves() -> None:
    assert make_tiling((500, 500), (64, 64), stride=64).rows.delta == 0
    assert make_tiling((500, 500), (64, 64), stride=61).rows.delta == 1


def test_windows_need_not_be_square() -> None:
    tiling = make_tiling((200, 300), (32, 64))
    assert (tiling.rows.stride, tiling.columns.stride) == (27, 55)
    assert covered(tiling, (200, 300)).min() >= 1


def test_a_scene_within_a_window_is_one_run_without_blending() -> None:
    for size in ((64, 64), (40, 64), (1, 1)):
        tiling = make_tiling(size, (64, 64))
        assert list(tiling) == [(0, 0)]
        placed = tiling.place(0, 0)
        assert (placed.weights == 1).all()
        assert placed.outside == (slice(0, size[0]), slice(0, size[1]))


def test_a_model_of_any_size_takes_such_a_scene_as_it_is() -> None:
    tiling = make_tiling((40, 50), (64, 64), stride=60, any_size=True)
    assert (tiling.rows.crop, tiling.columns.crop) == (40, 50)
    assert (make_tiling((40, 90), (64, 64), any_size=True).rows.crop) == 64


@pytest.mark.parametrize(
    ("stride", "delta", "said"),
    [
        (65, None, "stride must be 1 to the size of a window, 64, got 65"),
        (0, None, "stride must be 1 to .* got 0"),
        (48, 9, "delta must be 0 to 8, .* got 9: choose a smaller one, or a smaller stride"),
        (None, -1, "delta must be 0 to 4, .* got -1"),
    ],
)
def test_windows_that_leave_pixels_out_are_refused(
    stride: int | None, delta: int | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        make_tiling((200, 200), (64, 64), stride, delta)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_reflection_is_that_of_numpy(size: int) -> None:
    expected = np.pad(np.arange(size), 20, mode="reflect")
    assert (reflected(np.arange(-20, size + 20), size) == expected).all()


def test_a_single_pixel_is_its_own_reflection() -> None:
    assert (reflected(np.arange(-3, 4), 1) == 0).all()
