from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from terratorch_simpler.probing.labels import Labels, cells_of, labels_of_task

SEGMENTATION = Labels("segmentation", num_classes=3, ignore_index=-1)
REGRESSION = Labels("regression", ignore_index=-9999)


def test_pixels_are_counted_in_their_own_cell() -> None:
    """Rows and columns differ in number and size, so that no two orders look alike."""
    mask = torch.full((2, 4, 9), -1)
    mask[1, 2:, 3:6] = torch.tensor([[0, 0, 2], [0, -1, 1]])
    cells = cells_of(mask, (2, 3), SEGMENTATION)
    assert cells.sums.shape == (2, 6, 3)
    assert cells.sums[1, 4].tolist() == [3, 1, 1]
    assert cells.pixels[1, 4] == cells.squares[1, 4] == 5
    assert cells.sums.sum() == cells.pixels.sum() == 5


def test_an_ignore_index_among_the_classes_is_left_out() -> None:
    labels = Labels("segmentation", num_classes=3, ignore_index=1)
    cells = cells_of(torch.tensor([[[0, 1], [2, 1]]]), (1, 1), labels)
    assert cells.sums[0, 0].tolist() == [1, 0, 1]


def test_values_are_summed_without_no_data_and_nan() -> None:
    mask = torch.tensor([[[1.0, -9999.0, 2.0, 3.0], [torch.nan, 4.0, 5.0, 6.0]]]).double()
    cells = cells_of(mask, (1, 2), REGRESSION)
    assert cells.pixels.tolist() == [[2, 4]]
    assert cells.sums.tolist() == [[[5], [16]]]
    assert cells.squares.tolist() == [[17, 74]]


def test_masks_come_with_a_channel_and_as_floats() -> None:
    mask = torch.randint(0, 3, (2, 8, 8))
    for given in (mask, mask[:, None], mask.float(), mask.to(torch.uint8)):
        assert torch.equal(SEGMENTATION.of({"mask": given}, 2), mask)


@pytest.mark.parametrize(
    ("labels", "batch", "message"),
    [
        (SEGMENTATION, {"image": torch.zeros(2, 1)}, r"no 'mask' tensor .*\(keys image\)"),
        (SEGMENTATION, torch.zeros(2, 1), r"no 'mask' tensor .*\(Tensor\)"),
        (SEGMENTATION, {"mask": torch.zeros(3, 4, 4)}, r"batch of 2 tiles has shape \[3, 4, 4\]"),
        (SEGMENTATION, {"mask": torch.zeros(2)}, r"needs \[tiles, height, width\]"),
        (SEGMENTATION, {"mask": torch.full((2, 4, 4), 0.5)}, "numbers like 0.5"),
        (REGRESSION, {"mask": torch.zeros(2, 3, 4, 4)}, r"needs \[tiles, height, width\]"),
        (Labels("classification"), {"label": torch.zeros(2, 3)}, r"needs \[tiles\]"),
        (Labels("multilabel"), {"label": torch.zeros(2)}, r"needs \[tiles, classes\]"),
        (Labels("classification"), {"label": ["forest", "farm"]}, "no 'label' tensor"),
    ],
)
def test_labels_that_are_none(labels: Labels, batch: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labels.of(batch, 2)


@pytest.mark.parametrize(
    ("labels", "mask", "grid", "message"),
    [
        (SEGMENTATION, torch.zeros(1, 100, 96).long(), (6, 6), "100 x 96 px cannot be cut into"),
        (SEGMENTATION, torch.full((1, 4, 4), 3), (2, 2), "class 3, but num_classes is 3"),
        (SEGMENTATION, torch.full((1, 4, 4), -2), (2, 2), "class -2, .* ignore_index -1"),
        (REGRESSION, torch.full((1, 4, 4), np.inf).double(), (2, 2), "hold infinity"),
    ],
)
def test_labels_that_do_not_fit(
    labels: Labels, mask: torch.Tensor, grid: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cells_of(mask, grid, labels)


def test_segmentation_needs_the_number_of_classes() -> None:
    with pytest.raises(ValueError, match="needs num_classes, at least 2: got None"):
        Labels("segmentation")
    with pytest.raises(ValueError, match=r"one of segmentation, regression, .* got 'detection'"):
        Labels("detection")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SemanticSegmentationTask", "segmentation"),
        ("PixelwiseRegressionTask", "regression"),
        ("ClassificationTask", "classification"),
        ("MultiLabelClassificationTask", "multilabel"),
        ("ScalarRegressionTask", None),
        ("ObjectDetectionTask", None),
    ],
)
def test_the_labels_of_terratorchs_tasks(name: str, kind: str | None) -> None:
    """A task of one's own that extends one of TerraTorch's has the labels of that one."""
    import terratorch.tasks

    class Own(getattr(terratorch.tasks, name)):  # type: ignore[misc]
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        hparams = {"model_args": {"num_classes": 5}, "ignore_index": 2}  # noqa: RUF012

    found = labels_of_task(Own())
    assert found == (None if kind is None else Labels(kind, 5, 2))  # type: ignore[arg-type]
