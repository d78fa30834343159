from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from terratorch_simpler.baselines import BASELINES, Matrix, baseline_blocks
from terratorch_simpler.criteria import CRITERIA, SIMILARITY, best_depth, check_criterion
from terratorch_simpler.layers.statistics import STATISTICS
from terratorch_simpler.results.probe import Probe
from terratorch_simpler.selection.certainty import cka
from terratorch_simpler.selection.decision import Evidence, decide
from terratorch_simpler.similarity import LayerSimilarity

Terms = NDArray[np.float64]


def random_layers(groups: int, blocks: int, seed: int = 0) -> list[list[torch.Tensor]]:
    """Groups of a random walk through ``blocks + 1`` layers: 12 samples of 5 features."""
    rng = torch.Generator().manual_seed(seed)
    walks = []
    for _ in range(groups):
        layers = [torch.randn(12, 5, generator=rng)]
        for _ in range(blocks):
            layers.append(layers[-1] + 0.7 * torch.randn(12, 5, generator=rng))
        walks.append(layers)
    return walks


def make_evidence(groups: int = 6, blocks: int = 8, seed: int = 0) -> Evidence:
    metric = LayerSimilarity(blocks + 1)
    for layers in random_layers(groups, blocks, seed):
        metric.update(layers)
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 1, (blocks + 1, blocks + 1))
    statistics = {name: rng.uniform(0, 1, (groups, blocks + 1)) for name in STATISTICS}
    return Evidence(metric.group_terms().numpy(), np.cos(np.pi * angle), angle, statistics)


def measured(evidence: Evidence, reads: str) -> Matrix:
    """What a criterion reads, by hand."""
    if reads == SIMILARITY:
        return np.round(summed_cka(evidence.terms), 6)
    return np.asarray(np.round(evidence.statistics[reads].mean(axis=0), 6))


def summed_cka(terms: Terms) -> Matrix:
    """CKA of the summed terms, entry by entry."""
    total = terms.sum(axis=0)
    layers = len(total)
    similarity = np.ones((layers, layers))
    for i in range(layers):
        for j in range(layers):
            if i != j:
                similarity[i, j] = total[i, j] / np.sqrt(total[i, i] * total[j, j])
    return similarity


def two_part_terms(start: int, layers: int = 9) -> Terms:
    part = np.arange(layers) >= start
    return np.asarray(part[:, None] == part[None, :], dtype=np.float64)


def test_similarity_is_that_of_the_summed_terms() -> None:
    evidence = make_evidence()
    similarity = decide(evidence, "simpler", None, seed=0).similarity
    np.testing.assert_allclose(similarity, summed_cka(evidence.terms), rtol=0, atol=1e-6)


def test_similarity_is_that_of_the_metric() -> None:
    metric = LayerSimilarity(9)
    for layers in random_layers(groups=3, blocks=8):
        metric.update(layers)
    np.testing.assert_allclose(
        cka(metric.group_terms().numpy().sum(axis=0)), metric.compute().numpy(), rtol=0, atol=1e-6
    )


def test_similarity_is_symmetric_with_a_diagonal_of_one() -> None:
    similarity = decide(make_evidence(), "simpler", None, seed=0).similarity
    assert np.array_equal(similarity, similarity.T)
    assert np.array_equal(np.diagonal(similarity), np.ones(9))


def test_similarity_of_a_layer_without_variance_is_zero_but_to_itself() -> None:
    terms = np.ones((3, 3))
    terms[1, :] = terms[:, 1] = 0
    assert cka(terms).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("criterion", CRITERIA)
def test_decision_is_that_of_the_criterion_on_the_summed_terms(criterion: str, seed: int) -> None:
    evidence = make_evidence(seed=seed)
    decision = decide(evidence, criterion, None, seed=0)
    scores = CRITERIA[criterion](measured(evidence, CRITERIA[criterion].reads))
    assert decision.scores == pytest.approx(scores, abs=1e-5)
    assert decision.kept_blocks == list(range(best_depth(scores)))


def test_decision_weighs_groups_by_their_terms() -> None:
    """Averaging the CKA of groups instead would let the small group vote as much as the large."""
    terms = np.stack([100 * two_part_terms(3), two_part_terms(6)])
    evidence = Evidence(terms, np.ones((9, 9)), np.zeros((9, 9)))
    assert decide(evidence, "stabilization", None, seed=0).kept_blocks == [0, 1, 2]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_others_are_all_but_the_one_that_decided(criterion: str) -> None:
    evidence = make_evidence()
    decision = decide(evidence, criterion, None, seed=0)
    assert decision.others.keys() == {*CRITERIA, *BASELINES} - {criterion}


def test_others_say_what_each_would_have_kept() -> None:
    evidence = make_evidence()
    decision = decide(evidence, "simpler", None, seed=0)
    depth = len(decision.kept_blocks)
    expected = {
        name: list(range(best_depth(rule(measured(evidence, rule.reads)))))
        for name, rule in CRITERIA.items()
        if name != "simpler"
    } | {name: baseline_blocks(name, evidence.cosine, evidence.angle, depth) for name in BASELINES}
    assert decision.others == expected


def test_criteria_that_need_more_blocks_are_not_listed() -> None:
    decision = decide(make_evidence(blocks=3), "stabilization", None, seed=0)
    assert "simpler" not in decision.others
    assert "knee" in decision.others


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_keeps_its_blocks_at_the_named_depth(name: str) -> None:
    evidence = make_evidence()
    decision = decide(evidence, name, 3, seed=0)
    assert decision.kept_blocks == baseline_blocks(name, evidence.cosine, evidence.angle, 3)


def test_baseline_has_no_scores_no_premise_and_no_confidence() -> None:
    decision = decide(make_evidence(), "first", 3, seed=0)
    assert (decision.scores, decision.certainty.shares) == ({}, {})
    assert decision.confidence is None
    assert decision.stabilizes is None


def test_equal_groups_leave_no_doubt() -> None:
    decision = decide(
        Evidence(np.stack([two_part_terms(4)] * 6), np.ones((9, 9)), np.zeros((9, 9))),
        "stabilization",
        None,
        seed=0,
    )
    assert decision.certainty.shares == {4: 1.0}
    assert decision.confidence == 1.0


def test_confidence_is_the_share_of_the_chosen_depth() -> None:
    decision = decide(make_evidence(), "simpler", None, seed=0)
    assert decision.confidence == decision.certainty.shares.get(len(decision.kept_blocks), 0.0)


def test_one_group_gives_no_confidence() -> None:
    decision = decide(make_evidence(groups=1), "simpler", None, seed=0)
    assert decision.confidence is None
    assert decision.certainty.shares == {}


def test_premise_is_that_of_the_criterion() -> None:
    flat = Evidence(np.ones((2, 9, 9)), np.ones((9, 9)), np.zeros((9, 9)))
    assert decide(flat, "simpler", None, seed=0).stabilizes is False
    assert decide(flat, "stabilization", None, seed=0).stabilizes is None


MISTAKES = [
    ("simpler", 5, "criterion 'simpler' chooses the depth itself: leave depth out"),
    ("knee", 1, "criterion 'knee' chooses the depth itself"),
    ("uniform", None, "criterion 'uniform' needs a depth"),
    ("magic", None, "unknown criterion 'magic': one of simpler, .*first"),
    ("magic", 5, "unknown criterion 'magic'"),
]


@pytest.mark.parametrize(("criterion", "depth", "message"), MISTAKES)
@pytest.mark.parametrize("check", [check_criterion, lambda c, d: decide(make_evidence(), c, d, 0)])
def test_criterion_and_depth_that_do_not_go_together_are_refused(
    check: Any, criterion: str, depth: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check(criterion, depth)


@pytest.mark.parametrize("depth", [-1, 0, 9])
def test_depth_that_does_not_exist_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth is {depth}, but this backbone has 8 blocks"):
        decide(make_evidence(), "first", depth, seed=0)


def test_too_shallow_a_backbone_is_refused() -> None:
    with pytest.raises(ValueError, match="'simpler' needs a backbone of at least 4 blocks"):
        decide(make_evidence(blocks=3), "simpler", None, seed=0)


def test_what_could_not_be_measured_is_left_out_with_the_reason() -> None:
    whole = make_evidence()
    rest = {name: whole.statistics[name] for name in STATISTICS[1:]}
    why = {"spatial_contrast": "tiles of 2 x 2 tokens are too small"}
    evidence = replace(whole, statistics=rest, missing=why)
    decision = decide(evidence, "simpler", None, seed=0)
    assert decision.unread.keys() == {"spatial_contrast", "spatial_rise"}
    assert decision.statistics.keys() == rest.keys()
    assert "spatial_contrast" not in decision.others
    with pytest.raises(ValueError, match="since tiles of 2 x 2 tokens are too small: choose"):
        decide(evidence, "spatial_rise", None, seed=0)


def test_a_statistic_of_one_group_leaves_the_certainty_open() -> None:
    whole = make_evidence()
    of_one = {**whole.statistics, "rankme": whole.statistics["rankme"][:1]}
    decision = decide(replace(whole, statistics=of_one), "rankme", None, seed=0)
    assert decision.confidence is None
    assert decide(whole, "spatial_contrast", None, seed=0).confidence is not None


def test_labels_decide_and_the_others_are_what_they_are() -> None:
    evidence = make_evidence()
    curve = dict(enumerate([0.9, 0.2, 0.5, 0.58, 0.6, 0.6, 0.4, 0.4, 0.4]))
    probe = Probe(
        backbone="b",
        task="segmentation",
        metric="mIoU",
        scores=curve,
        others={},
        penalties=curve,
        train_tiles=4,
        val_tiles=2,
        reference="best",
        errors=dict.fromkeys(curve, 0.05) | {4: 0.0},
        depth_shares={3: 0.7, 4: 0.3},
        depth_interval=(3, 4),
    )
    found = decide(evidence, "probe", None, 0, probe)
    assert found.kept_blocks == [0, 1, 2]
    assert found.scores == {depth: score for depth, score in curve.items() if depth > 0}
    assert (found.confidence, found.certainty.interval, found.stabilizes) == (0.7, (3, 4), None)
    assert found.others == {
        name: decide(evidence, name, None, 0).kept_blocks for name in CRITERIA
    } | {name: decide(evidence, name, 3, 0).kept_blocks for name in BASELINES}
