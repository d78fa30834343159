"""Standard errors between depths, and the depths that resamples choose."""

from __future__ import annotations

import numpy as np
import pytest

from terratorch_simpler.probing.resampling import accuracies
from terratorch_simpler.probing.uncertainty import chosen_depths, paired_errors, uncertainty


def test_errors_are_those_of_paired_differences() -> None:
    """What two depths get right and wrong together does not count."""
    random = np.random.default_rng(0)
    tiles = 400
    hits = np.repeat(random.random((1, tiles)) < 0.6, 3, axis=0)
    flipped = random.random(tiles) < 0.1
    hits[2] ^= flipped
    resamples = accuracies(hits, 0)
    assert resamples is not None
    errors = paired_errors(resamples)
    # The first two are alike.
    assert errors[0, 1] == 0
    assert np.array_equal(errors, errors.T)
    difference = hits[2].astype(float) - hits[1]
    assert errors[1, 2] == pytest.approx(difference.std() / np.sqrt(tiles), rel=0.1)


def test_a_layer_that_varies_by_itself_does_not_change_the_others() -> None:
    random = np.random.default_rng(0)
    resamples = random.standard_normal((1000, 1)) + np.array([0.0, 0.2, 0.4])
    assert paired_errors(resamples) == pytest.approx(np.zeros((3, 3)), abs=1e-12)


SCORES = np.array(
    [
        [0.9, 0.70, 0.79, 0.80, 0.60],
        [0.9, 0.80, 0.79, 0.80, 0.60],
        [0.9, 0.10, 0.20, 0.30, 0.95],
        [0.9, -0.3, -0.1, -0.2, -0.1],
    ]
)


@pytest.mark.parametrize(
    ("share", "depths"),
    [(None, [2, 1, 4, 2]), (0.98, [2, 1, 4, 2]), (0.3, [1, 1, 3, 2]), (1.0, [3, 1, 4, 2])],
)
def test_each_resample_chooses_by_the_rule(share: float | None, depths: list[int]) -> None:
    """Layer 0 is no depth; the smallest of equal ones; no share of what is not above 0."""
    errors = np.full((5, 5), 0.02) - 0.02 * np.eye(5)
    assert chosen_depths(SCORES, errors, share).tolist() == depths


def test_the_error_is_that_to_the_best_of_the_resample() -> None:
    errors = np.zeros((5, 5))
    # Depth 2 is close to depth 3, where that is best, and depth 3 to depth 4.
    errors[2, 3] = errors[3, 2] = 0.02
    errors[3, 4] = errors[4, 3] = 0.9
    assert chosen_depths(SCORES, errors, None).tolist() == [2, 1, 3, 2]


def test_shares_interval_and_errors() -> None:
    random = np.random.default_rng(0)
    noise = np.array([0.01, 0.01, 0.01, 0.1])
    resamples = np.array([0.9, 0.3, 0.8, 0.79]) + noise * random.standard_normal((1000, 4))
    found = uncertainty(resamples, 2)
    assert found.errors[2] == 0
    assert found.errors[3] == pytest.approx(np.hypot(0.1, 0.01), rel=0.1)
    assert found.errors[1] == pytest.approx(np.hypot(0.01, 0.01), rel=0.1)
    # Only where depth 3 is better by more than a standard error is it chosen: z > 1.1.
    assert found.shares[3] == pytest.approx(0.136, abs=0.04)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.interval == (2, 3)
    assert uncertainty(resamples, 2, share=0.1).shares == {1: 1.0}
