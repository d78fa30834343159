from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from terratorch_simpler.baselines import (
    BASELINES,
    Matrix,
    angular_distance,
    baseline_blocks,
    block_influence,
    first,
    uniform,
)
from terratorch_simpler.criteria import CRITERIA, OF_SIMILARITY, Scores, best_depth

PathMatrix = Callable[[Sequence[float]], Matrix]


def random_matrix(blocks: int, seed: int) -> Matrix:
    """A cosine Gram matrix of ``blocks + 1`` random layers with a common part."""
    vectors = np.random.default_rng(seed).normal(0.5, 1, (blocks + 1, 7))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors @ vectors.T)


def two_parts(blocks: int, start: int) -> Matrix:
    """Layers 0..start-1 all alike, layers start..L all alike, the two parts unrelated."""
    part = np.arange(blocks + 1) >= start
    return np.asarray(part[:, None] == part[None, :], dtype=np.float64)


def delta(matrix: Matrix, low: int, high: int) -> float:
    """Mean change from row to row of ``matrix[low:high, low:high]``, inclusive and 1-based."""
    changes = [
        abs(matrix[row + 1, column] - matrix[row, column])
        for row in range(low, high)
        for column in range(low, high + 1)
    ]
    return float(sum(changes)) / len(changes)


def naive_simpler(s: Matrix) -> Scores:
    """Row and column l of ``s`` are the output of block l, since layer 0 is the first input."""
    last = len(s) - 1
    return {c: delta(s, 1, c) - delta(s, c + 1, last) for c in range(2, last - 2 + 1)}


def naive_stabilization(s: Matrix) -> Scores:
    last = len(s) - 1
    scores = {}
    for k in range(1, last - 1 + 1):
        m = last + 1 - k
        head = sum(s[i, j] for i in range(k) for j in range(k))
        tail = sum(s[i, j] for i in range(k, last + 1) for j in range(k, last + 1))
        scores[k] = -float((k - head / k) + (m - tail / m))
    return scores


def naive_redundancy(s: Matrix) -> Scores:
    last = len(s) - 1
    return {k: float(sum(s[k, j] for j in range(k + 1, last + 1))) / last for k in range(1, last)}


def naive_contrast(s: Matrix) -> Scores:
    last = len(s) - 1
    scores = {}
    for k in range(1, last):
        inside = [s[i, j] for i in range(k, last + 1) for j in range(k, last + 1) if i != j]
        across = [s[i, j] for i in range(k) for j in range(k, last + 1)]
        scores[k] = float(np.mean(inside) - np.mean(across))
    return scores


def naive_knee(s: Matrix) -> Scores:
    last = len(s) - 1
    curve = [float(s[layer, last]) for layer in range(last + 1)]
    low, high = min(curve), max(curve)
    return {k: (curve[k] - low) / (high - low) - k / last for k in range(1, last)}


NAIVE = {
    "simpler": naive_simpler,
    "stabilization": naive_stabilization,
    "redundancy": naive_redundancy,
    "contrast": naive_contrast,
    "knee": naive_knee,
}


def naive_spatial_contrast(curve: Matrix) -> Scores:
    largest = max(curve[1:])
    if largest <= 0:
        return {k: float(curve[k]) for k in range(1, len(curve))}
    return {k: min(float(curve[k] / largest), 0.8) for k in range(1, len(curve))}


def naive_spatial_rise(curve: Matrix) -> Scores:
    return {k: float(curve[k] - curve[k - 1]) for k in range(1, len(curve))}


def naive_itself(curve: Matrix) -> Scores:
    return {k: float(curve[k]) for k in range(1, len(curve))}


def naive_neighbours(curve: Matrix) -> Scores:
    depths = range(1, len(curve) - 1)
    return {k: float(np.mean(curve[k + 1 :]) - np.mean(curve[1 : k + 1])) for k in depths}


OF_CURVES = {
    "spatial_contrast": naive_spatial_contrast,
    "spatial_rise": naive_spatial_rise,
    "participation": naive_itself,
    "rankme": naive_itself,
    "neighbours": naive_neighbours,
}


def test_every_criterion_has_a_reference_here() -> None:
    assert NAIVE.keys() == OF_SIMILARITY.keys()
    assert OF_CURVES.keys() == CRITERIA.keys() - OF_SIMILARITY.keys()


@pytest.mark.parametrize("blocks", [2, 5, 24])
@pytest.mark.parametrize("name", OF_CURVES)
def test_scores_of_curves_follow_the_formula(name: str, blocks: int) -> None:
    for low in (-1.0, 0.1):
        curve = np.random.default_rng(blocks).uniform(low, low + 0.9, blocks + 1)
        assert CRITERIA[name](curve) == pytest.approx(OF_CURVES[name](curve), abs=1e-12)


def test_the_first_depth_with_enough_spatial_contrast_is_kept() -> None:
    curve = np.array([0.06, 0.07, 0.08, 0.11, 0.19, 0.22, 0.25, 0.23, 0.22, 0.05])
    assert best_depth(CRITERIA["spatial_contrast"](curve)) == 5
    assert best_depth(CRITERIA["spatial_rise"](curve)) == 4
    assert CRITERIA["spatial_contrast"].depths(np.stack([curve, curve[::-1]])).tolist() == [5, 1]
    assert best_depth(CRITERIA["spatial_contrast"](-curve)) == 9


@pytest.mark.parametrize("blocks", [4, 5, 12, 24])
@pytest.mark.parametrize("name", NAIVE)
def test_scores_follow_the_formula(name: str, blocks: int) -> None:
    similarity = random_matrix(blocks, seed=blocks)
    assert CRITERIA[name](similarity) == pytest.approx(NAIVE[name](similarity), abs=1e-12)


def test_simpler_leaves_out_the_input_of_the_first_block() -> None:
    similarity = random_matrix(12, seed=0)
    changed = similarity.copy()
    changed[0, :] = changed[:, 0] = -1
    assert CRITERIA["simpler"](changed) == CRITERIA["simpler"](similarity)


def test_simpler_on_four_blocks_by_hand() -> None:
    """With two rows a part changes by 1 minus its one similarity."""
    similarity = np.eye(5)
    similarity[1, 2] = similarity[2, 1] = 0.25
    similarity[3, 4] = similarity[4, 3] = 0.875
    assert CRITERIA["simpler"](similarity) == {2: 0.875 - 0.25}


@pytest.mark.parametrize("still_from", [3, 5, 8])
def test_simpler_keeps_what_moves_of_a_path_that_then_stands_still(
    path_matrix: PathMatrix, still_from: int
) -> None:
    moves = [0.15] * still_from + [0.0] * (12 - still_from)
    scores = CRITERIA["simpler"](path_matrix(moves))
    assert best_depth(scores) == still_from


@pytest.mark.parametrize("name", ["stabilization", "contrast", "knee"])
@pytest.mark.parametrize("start", [1, 4, 11])
def test_finds_where_the_second_of_two_parts_starts(name: str, start: int) -> None:
    assert best_depth(CRITERIA[name](two_parts(12, start))) == start


def test_stabilization_scatter_of_two_solid_parts_is_zero() -> None:
    assert CRITERIA["stabilization"](two_parts(12, 5))[5] == 0


def test_stabilization_keeps_the_block_from_which_an_orthogonal_path_stands_still() -> None:
    """Layers 0..4 are unrelated, layers 5..12 are one: block 5 is the first of the stable part."""
    similarity = np.eye(13)
    similarity[5:, 5:] = 1
    assert best_depth(CRITERIA["stabilization"](similarity)) == 5


def test_redundancy_is_the_similarity_mass_of_what_is_removed() -> None:
    assert CRITERIA["redundancy"](two_parts(4, 2)) == {1: 0.0, 2: 0.5, 3: 0.25}


def test_flat_curve_has_its_knee_at_the_first_block() -> None:
    assert best_depth(CRITERIA["knee"](np.ones((6, 6)))) == 1


@pytest.mark.parametrize(
    ("scores", "depth"),
    [
        ({2: 0.5, 3: 0.7, 4: 0.7}, 3),
        ({4: 0.7, 3: 0.7, 2: 0.5}, 3),
        ({2: -1.0, 3: -0.5}, 3),
        ({7: 0.0}, 7),
    ],
)
def test_largest_score_wins_and_ties_go_to_the_smallest_depth(scores: Scores, depth: int) -> None:
    assert best_depth(scores) == depth


@pytest.mark.parametrize(
    ("name", "smallest"),
    [("simpler", 4), ("stabilization", 2), ("redundancy", 2), ("contrast", 2), ("knee", 2)],
)
def test_too_shallow_a_backbone_is_refused(name: str, smallest: int) -> None:
    assert CRITERIA[name](random_matrix(smallest, seed=0))
    message = rf"'{name}' needs a backbone of at least {smallest} blocks, this one has"
    with pytest.raises(ValueError, match=message):
        CRITERIA[name](random_matrix(smallest - 1, seed=0))


@pytest.mark.parametrize(
    ("scores", "holds"), [({2: -0.1, 3: 0.01}, True), ({2: 0.0, 3: -0.1}, False), ({2: -1}, False)]
)
def test_premise_of_simpler_is_a_score_above_zero(scores: Scores, holds: bool) -> None:
    assert CRITERIA["simpler"].stabilizes(scores) is holds


def test_path_at_rest_contradicts_the_premise_of_simpler() -> None:
    scores = CRITERIA["simpler"](np.ones((13, 13)))
    assert CRITERIA["simpler"].stabilizes(scores) is False


@pytest.mark.parametrize("name", ["stabilization", "redundancy", "contrast", "knee"])
def test_other_criteria_have_no_premise(name: str) -> None:
    assert CRITERIA[name].stabilizes({1: 1.0}) is None


def with_diagonal(blocks: int, offset: int, values: Sequence[float], fill: float) -> Matrix:
    matrix = np.full((blocks + 1, blocks + 1), fill)
    for row, value in enumerate(values):
        matrix[row, row + offset] = matrix[row + offset, row] = value
    return matrix


@pytest.mark.parametrize(
    ("depth", "kept"), [(1, [2]), (2, [0, 2]), (3, [0, 2, 3]), (4, [0, 1, 2, 3])]
)
def test_block_influence_keeps_the_blocks_that_turn_tokens_most(
    depth: int, kept: list[int]
) -> None:
    cosine = with_diagonal(4, 1, [0.5, 0.9, 0.2, 0.7], fill=0.0)
    assert block_influence(cosine, depth) == kept


def test_block_influence_prefers_earlier_blocks_among_equals() -> None:
    assert block_influence(with_diagonal(4, 1, [0.5] * 4, fill=0.0), 2) == [0, 1]


@pytest.mark.parametrize(
    ("angles", "kept"),
    [
        # angles[l] is between layers l and l + 2, around blocks l and l + 1 (0-based).
        ([0.1, 0.4, 0.4, 0.4], [2, 3, 4]),
        ([0.4, 0.1, 0.4, 0.4], [0, 3, 4]),
        ([0.4, 0.4, 0.1, 0.4], [0, 1, 4]),
        ([0.4, 0.4, 0.4, 0.1], [0, 1, 2]),
    ],
)
def test_angular_distance_removes_the_run_that_turns_tokens_least(
    angles: list[float], kept: list[int]
) -> None:
    # Everything else is nearer, so that a run of another length would be found out.
    assert angular_distance(with_diagonal(5, 2, angles, fill=0.01), 3) == kept


def test_angular_distance_at_full_depth_keeps_all() -> None:
    assert angular_distance(np.zeros((6, 6)), 5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("total", "depth", "kept"),
    [
        (24, 5, [4, 9, 14, 19, 23]),
        (12, 4, [2, 5, 8, 11]),
        (12, 1, [11]),
        (4, 3, [1, 2, 3]),
        (4, 4, [0, 1, 2, 3]),
    ],
)
def test_uniform_spaces_blocks_evenly_up_to_the_last(
    total: int, depth: int, kept: list[int]
) -> None:
    assert uniform(total, depth) == kept
    assert kept == [math.ceil((i + 1) * total / depth) - 1 for i in range(depth)]


def test_first_keeps_the_first() -> None:
    assert first(12, 3) == [0, 1, 2]


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("depth", [1, 5, 12])
def test_baselines_keep_as_many_sorted_blocks_as_asked(name: str, depth: int) -> None:
    cosine = random_matrix(12, seed=3)
    kept = baseline_blocks(name, cosine, np.arccos(np.clip(cosine, -1, 1)) / np.pi, depth)
    assert len(kept) == depth
    assert kept == sorted(set(kept) & set(range(12)))


def test_baselines_by_name_are_those_functions() -> None:
    cosine, angle = random_matrix(12, seed=3), np.abs(random_matrix(12, seed=4))
    assert {name: baseline_blocks(name, cosine, angle, 5) for name in BASELINES} == {
        "block_influence": block_influence(cosine, 5),
        "angular_distance": angular_distance(angle, 5),
        "uniform": uniform(12, 5),
        "first": first(12, 5),
    }
