from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from terratorch_simpler.criteria import CRITERIA, SIMILARITY
from terratorch_simpler.selection.certainty import (
    MIN_GROUPS,
    assess,
    cka,
    is_settled,
    may_stop_at,
    resample,
)


def two_part_terms(start: int, layers: int = 9) -> NDArray[np.float64]:
    """Layers before ``start`` are alike, those from it on as well, and the two parts are not."""
    part = np.arange(layers) >= start
    return np.asarray(part[:, None] == part[None, :], dtype=np.float64)


def mixed_terms(groups: int, layers: int = 9) -> NDArray[np.float64]:
    """Groups of two kinds: three in five say 6, the others 3."""
    says_six = np.random.default_rng(0).permutation(groups) % 5 < 3
    return np.stack([two_part_terms(6 if six else 3, layers) for six in says_six])


@pytest.mark.parametrize("criterion", CRITERIA)
def test_shares_are_of_possible_depths_and_sum_to_one(criterion: str) -> None:
    curves = np.random.default_rng(0).uniform(0, 1, (MIN_GROUPS, 9))
    of_similarity = CRITERIA[criterion].reads == SIMILARITY
    values = mixed_terms(MIN_GROUPS) if of_similarity else curves
    certainty = assess(values, criterion, seed=0)
    assert sum(certainty.shares.values()) == pytest.approx(1)
    assert all(1 <= depth <= 8 and share > 0 for depth, share in certainty.shares.items())
    assert certainty.interval is not None
    low, high = certainty.interval
    assert sum(s for d, s in certainty.shares.items() if low <= d <= high) >= 0.95


def test_shares_are_reproducible_by_seed() -> None:
    terms = mixed_terms(10)
    shares = assess(terms, "stabilization", seed=3).shares
    assert len(shares) > 1
    assert assess(terms, "stabilization", seed=3).shares == shares
    assert assess(terms, "stabilization", seed=4).shares != shares


def test_shares_are_those_of_drawing_all_but_three_groups_with_replacement() -> None:
    """Five of eight draws; the second kind outweighs the first only where it is drawn alone."""
    terms = np.stack([100 * two_part_terms(3)] * 2 + [two_part_terms(6)] * 6)
    shares = assess(terms, "stabilization", seed=0).shares
    assert shares == pytest.approx({3: 1 - 0.75**5, 6: 0.75**5}, abs=0.05)


def test_few_groups_say_nothing() -> None:
    certainty = assess(mixed_terms(MIN_GROUPS - 1), "simpler", seed=0)
    assert (certainty.shares, certainty.interval, certainty.times_more) == ({}, None, None)


def test_spread_of_resamples_is_that_of_students_t() -> None:
    """For terms that are linear in the groups: one layer pair whose norm is fixed."""
    groups = 12
    values = np.random.default_rng(1).uniform(0.2, 0.8, groups)
    terms = np.stack([[[1.0, value], [value, 1.0]] for value in values])
    spread = resample(terms, seed=0)[:, 0, 1].std()
    expected = np.sqrt(values.var(ddof=1) / groups * (groups - 1) / (groups - 3))
    assert spread == pytest.approx(expected, rel=0.08)


def test_more_tiles_are_named_where_they_would_settle_the_choice() -> None:
    few, many = (assess(mixed_terms(groups), "stabilization", seed=0) for groups in (20, 400))
    assert max(few.shares.values()) < 0.95
    assert few.times_more is not None
    # A gap of a fifth of the groups, of which each is one or the other.
    assert few.times_more == pytest.approx(1.645**2 * 0.96 / 0.2**2 / 17, rel=0.2)
    assert max(many.shares.values()) >= 0.95
    assert many.times_more is None


def test_equal_groups_are_settled_and_different_ones_are_not() -> None:
    assert is_settled(np.stack([two_part_terms(4)] * 8), "stabilization", seed=0)
    mixed = np.stack([two_part_terms(3)] * 4 + [two_part_terms(6)] * 4)
    assert not is_settled(mixed, "stabilization", seed=0)


def test_looks_double() -> None:
    assert [tiles for tiles in range(2049) if may_stop_at(tiles, 16)] == [128, 256, 512, 1024, 2048]
    assert [tiles for tiles in range(700) if may_stop_at(tiles, 32)] == [256, 512]


def test_cka_is_symmetric_and_rounded() -> None:
    matrix = cka(mixed_terms(5).sum(axis=0))
    assert np.array_equal(matrix, matrix.T)
    assert np.array_equal(matrix, np.round(matrix, 6))
    assert np.array_equal(np.diag(matrix), np.ones(9))
