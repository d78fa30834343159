from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from terratorch_simpler.similarity import LayerAngles, LayerSimilarity, linear_cka

Array = NDArray[np.float64]
WIDTHS = (8, 8, 5, 13)
SPLITS = [[64, 64], [37, 8, 51], [200]]
FEATURES = {"plain": (1.0, 0.0), "scaled": (1e3, 0.0), "shifted": (1.0, 300.0)}


def make_groups(
    sizes: Sequence[int], scale: float = 1.0, offset: float = 0.0, seed: int = 0
) -> list[list[Tensor]]:
    """Groups of layers that share a common part, so that similarities are neither 0 nor 1."""
    rng = torch.Generator().manual_seed(seed)
    mixes = [torch.randn(6, width, generator=rng) for width in WIDTHS]
    groups = []
    for size in sizes:
        common = torch.randn(size, 6, generator=rng)
        groups.append(
            [
                scale * (common @ mix + torch.randn(size, mix.shape[1], generator=rng)) + offset
                for mix in mixes
            ]
        )
    return groups


def reference_hsic(x: Tensor, y: Tensor) -> float:
    """The estimator of Song et al. (2012), word for word from its definition."""
    n = len(x)
    grams = []
    for features in (x.double().numpy(), y.double().numpy()):
        gram = features @ features.T
        np.fill_diagonal(gram, 0)
        grams.append(gram)
    k, m = grams
    ones = np.ones(n)
    trace = float(np.trace(k @ m))
    totals = float(ones @ k @ ones) * float(ones @ m @ ones)
    rows = float(ones @ k @ m @ ones)
    return (trace + totals / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows) / (n * (n - 3))


def reference_cka(groups: Sequence[Sequence[Tensor]]) -> Array:
    layers = len(groups[0])
    hsic = np.zeros((layers, layers))
    for group in groups:
        for i in range(layers):
            for j in range(layers):
                hsic[i, j] += reference_hsic(group[i], group[j])
    norm = np.sqrt(np.diagonal(hsic))
    return np.asarray(hsic / np.outer(norm, norm))


def similarity_of(groups: Sequence[Sequence[Tensor]]) -> Tensor:
    metric = LayerSimilarity(len(groups[0]))
    for group in groups:
        metric.update(group)
    return metric.compute()


def rotation(width: int) -> Tensor:
    rng = torch.Generator().manual_seed(width)
    orthogonal, _ = torch.linalg.qr(torch.randn(width, width, generator=rng))
    return torch.as_tensor(orthogonal)


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
@pytest.mark.parametrize(("scale", "offset"), FEATURES.values(), ids=FEATURES)
def test_equals_the_definition_in_float64(sizes: list[int], scale: float, offset: float) -> None:
    groups = make_groups(sizes, scale, offset)
    reference = reference_cka(groups)
    assert 0.1 < np.abs(reference[np.triu_indices(len(WIDTHS), 1)]).mean() < 0.9
    np.testing.assert_allclose(similarity_of(groups).numpy(), reference, rtol=0, atol=1e-4)


def test_layers_of_very_different_scale_equal_the_definition() -> None:
    groups = [
        [layer * scale for layer, scale in zip(group, (1e-4, 1.0, 1e4, 1e2), strict=True)]
        for group in make_groups([37, 8, 51])
    ]
    reference = reference_cka(groups)
    np.testing.assert_allclose(similarity_of(groups).numpy(), reference, rtol=0, atol=1e-4)


def test_groups_of_different_scale_equal_the_definition() -> None:
    """HSIC terms are summed over groups before the ratio, so that louder groups weigh more."""
    groups = [
        [layer * scale for layer in group]
        for group, scale in zip(make_groups([40, 40]), (1.0, 3.0), strict=True)
    ]
    reference = reference_cka(groups)
    np.testing.assert_allclose(similarity_of(groups).numpy(), reference, rtol=0, atol=1e-4)


def test_smallest_group_equals_the_definition() -> None:
    groups = make_groups([4, 4, 4, 4, 4, 4, 4, 4])
    reference = reference_cka(groups)
    np.testing.assert_allclose(similarity_of(groups).numpy(), reference, rtol=0, atol=1e-4)


def test_is_exactly_symmetric() -> None:
    similarity = similarity_of(make_groups([37, 8, 51]))
    assert torch.equal(similarity, similarity.T)


def test_diagonal_is_exactly_one() -> None:
    diagonal = similarity_of(make_groups([37, 8, 51])).diagonal()
    assert torch.equal(diagonal, torch.ones(len(WIDTHS), dtype=torch.float64))


@pytest.mark.parametrize("scale", [1.0, -2.5, 1e-3, 1e3])
def test_ignores_rotation_and_isotropic_scale_of_a_layer(scale: float) -> None:
    groups = make_groups([37, 51])
    turned = [[scale * layer @ rotation(layer.shape[1]) for layer in group] for group in groups]
    torch.testing.assert_close(similarity_of(turned), similarity_of(groups), rtol=0, atol=1e-5)


def test_does_not_ignore_an_anisotropic_scale() -> None:
    groups = make_groups([64])
    stretched = [[group[0] * torch.logspace(0, 2, WIDTHS[0]), *group[1:]] for group in groups]
    change = similarity_of(stretched) - similarity_of(groups)
    assert change[0, 1].abs() > 0.01


def test_does_not_depend_on_the_order_of_samples() -> None:
    (group,) = make_groups([64])
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    shuffled = [[layer[order] for layer in group]]
    torch.testing.assert_close(similarity_of(shuffled), similarity_of([group]), rtol=0, atol=1e-6)


def test_unrelated_layers_average_to_no_similarity() -> None:
    """The biased estimator would be far above 0 for wide layers and few samples."""
    rng = torch.Generator().manual_seed(0)
    groups = [[torch.randn(16, 64, generator=rng) for _ in range(2)] for _ in range(100)]
    assert similarity_of(groups)[0, 1].abs() < 0.1


def test_linear_cka_is_layer_similarity_on_one_group() -> None:
    (group,) = make_groups([64])
    assert torch.equal(linear_cka(group[1], group[3]), similarity_of([[group[1], group[3]]])[0, 1])


def test_linear_cka_of_a_turned_and_scaled_copy_is_one() -> None:
    x = make_groups([64])[0][0]
    assert linear_cka(x, 3 * x @ rotation(x.shape[1])).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1234.567])
def test_constant_layer_is_similar_to_itself_only(value: float) -> None:
    group = make_groups([37])[0]
    similarity = similarity_of([[torch.full((37, 9), value), *group]])
    expected = torch.tensor([1.0, 0, 0, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(similarity[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 3])
def test_too_few_samples_are_refused(samples: int) -> None:
    group = [layer[:samples] for layer in make_groups([4])[0]]
    with pytest.raises(ValueError, match=rf"at least 4 samples in a group, got {samples}"):
        LayerSimilarity(len(WIDTHS)).update(group)


def test_layers_of_different_samples_are_refused() -> None:
    x, y, *_ = make_groups([8])[0]
    with pytest.raises(ValueError, match="of the same samples"):
        linear_cka(x, y[:-1])


def test_another_number_of_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 3 layers, got 4"):
        LayerSimilarity(3).update(make_groups([8])[0])


def test_merged_states_equal_one_metric() -> None:
    groups = make_groups([37, 8, 51, 20])
    whole, left, right = (LayerSimilarity(len(WIDTHS)) for _ in range(3))
    for metric, part in ((whole, groups), (left, groups[:3]), (right, groups[3:])):
        for group in part:
            metric.update(group)
    left.merge_state(right)
    torch.testing.assert_close(left.compute(), whole.compute(), rtol=0, atol=1e-12)


def test_states_of_several_processes_are_put_together_in_the_order_of_the_groups() -> None:
    groups = make_groups([37, 8, 51, 20])
    there = LayerSimilarity(len(WIDTHS))
    for number in (1, 3):
        there.update(groups[number], number)
    theirs = {1: there.groups, 3: there.terms}

    def gather(state: Tensor, group: object) -> list[Tensor]:
        return [state, torch.cat([*theirs[state.ndim]])]

    here = LayerSimilarity(len(WIDTHS), dist_sync_fn=gather, distributed_available_fn=lambda: True)
    for number in (0, 2):
        here.update(groups[number], number)
    torch.testing.assert_close(here.compute(), similarity_of(groups), rtol=0, atol=1e-12)
    with here.sync_context(gather):
        merged = here.group_terms()
    alone = LayerSimilarity(len(WIDTHS))
    for group in groups:
        alone.update(group)
    assert torch.equal(merged, alone.group_terms())


def test_a_process_without_groups_merges_and_goes_on() -> None:
    groups = make_groups([37, 8])
    there = LayerSimilarity(len(WIDTHS))
    there.update(groups[0], 0)
    theirs = {1: there.groups, 3: there.terms}

    def gather(state: Tensor, group: object) -> list[Tensor]:
        return [torch.cat([*theirs[state.ndim]]), state]

    here = LayerSimilarity(len(WIDTHS), distributed_available_fn=lambda: True)
    with here.sync_context(gather):
        assert torch.equal(here.group_terms(), there.group_terms())
    here.update(groups[1], 1)
    with here.sync_context(gather):
        assert len(here.group_terms()) == 2


def test_a_number_given_again_replaces_the_last_group() -> None:
    first, second, longer = make_groups([37, 8, 51])
    metric, expected = LayerSimilarity(len(WIDTHS)), LayerSimilarity(len(WIDTHS))
    for number, group in ((0, first), (1, second), (1, longer)):
        metric.update(group, number)
    for group in (first, longer):
        expected.update(group)
    assert torch.equal(metric.group_terms(), expected.group_terms())


def test_forward_gives_the_group_and_keeps_the_sum() -> None:
    first, second = make_groups([37, 51])
    metric = LayerSimilarity(len(WIDTHS))
    metric(first)
    assert torch.equal(metric(second), similarity_of([second]))
    torch.testing.assert_close(metric.compute(), similarity_of([first, second]))


def test_reset_forgets_all_groups() -> None:
    first, second = make_groups([37, 51])
    metric = LayerSimilarity(len(WIDTHS))
    metric.update(first)
    metric.reset()
    metric.update(second)
    assert torch.equal(metric.compute(), similarity_of([second]))


def test_keeps_the_terms_of_every_group() -> None:
    groups = make_groups([37, 8, 51])
    metric = LayerSimilarity(len(WIDTHS))
    for group in groups:
        metric.update(group)
    assert metric.group_terms().shape == (3, len(WIDTHS), len(WIDTHS))


def test_bfloat16_autocast_changes_nothing() -> None:
    groups = make_groups([37, 51])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = similarity_of(groups)
    assert torch.equal(inside, similarity_of(groups))


def reference_angles(layers: Sequence[Tensor]) -> tuple[Array, Array]:
    unit = [layer.double().numpy() for layer in layers]
    unit = [layer / np.linalg.norm(layer, axis=1, keepdims=True) for layer in unit]
    count = len(layers)
    cosine, angle = np.zeros((count, count)), np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            values = np.clip((unit[i] * unit[j]).sum(axis=1), -1, 1)
            cosine[i, j] = values.mean()
            angle[i, j] = (np.arccos(values) / np.pi).mean()
    return cosine, angle


def angle_layers(samples: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(2)
    return [5 * torch.randn(samples, 6, generator=rng) + 1 for _ in range(3)]


def test_angles_equal_numpy_over_several_groups() -> None:
    layers = angle_layers(50)
    metric = LayerAngles(3)
    metric.update([layer[:11] for layer in layers])
    metric.update([layer[11:] for layer in layers])
    cosine, angle = metric.compute()
    expected_cosine, expected_angle = reference_angles(layers)
    np.testing.assert_allclose(cosine.numpy(), expected_cosine, rtol=0, atol=1e-6)
    # The arc cosine of a float32 next to 1 is good to the square root of its rounding.
    np.testing.assert_allclose(angle.numpy(), expected_angle, rtol=0, atol=5e-4)


def test_angles_of_merged_states_equal_one_metric() -> None:
    layers = angle_layers(50)
    whole, left, right = LayerAngles(3), LayerAngles(3), LayerAngles(3)
    whole.update(layers)
    left.update([layer[:11] for layer in layers])
    right.update([layer[11:] for layer in layers])
    left.merge_state(right)
    for merged, expected in zip(left.compute(), whole.compute(), strict=True):
        torch.testing.assert_close(merged, expected, rtol=0, atol=1e-6)


def test_angles_ignore_autocast() -> None:
    layers = angle_layers(20)
    inside, outside = LayerAngles(3), LayerAngles(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside.update(layers)
    outside.update(layers)
    assert torch.equal(inside.cosine, outside.cosine)
