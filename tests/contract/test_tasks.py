"""Every task of TerraTorch trains and predicts with a pruned backbone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import rasterio
import torch
from torch import Tensor

from terratorch_simpler.backbones.pruned import find_pruned
from tests.contract.conftest import (
    CE,
    FULL,
    KEPT,
    PRUNED,
    PYRAMID,
    RESHAPE,
    SELECT,
    SIZE,
    UNET,
    MakeTask,
    MakeTrainer,
    batches,
    depth_of,
    predict,
    train,
)

SCALAR: dict[str, Any] = {"necks": [RESHAPE], "decoder": "IdentityDecoder"}
CLASSES: dict[str, Any] = {"num_classes": 3}
TASKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "SemanticSegmentationTask": (UNET | CLASSES, CE),
    "PixelwiseRegressionTask": (UNET, {"loss": "mse"}),
    "ScalarRegressionTask": (SCALAR | {"num_outputs": 2}, {"loss": "mse", "num_outputs": 2}),
    "ClassificationTask": (SCALAR | CLASSES, CE),
    "MultiLabelClassificationTask": (SCALAR | CLASSES, {"loss": "bce"}),
}
"""Model and arguments of each task."""

TARGETS: dict[str, dict[str, Tensor]] = {
    "SemanticSegmentationTask": {"mask": torch.arange(2 * SIZE**2).reshape(2, SIZE, SIZE) % 3},
    "PixelwiseRegressionTask": {"mask": torch.linspace(0, 1, 2 * SIZE**2).reshape(2, SIZE, SIZE)},
    "ScalarRegressionTask": {"label": torch.tensor([[0.5, 1.0], [2.0, 3.0]])},
    "ClassificationTask": {"label": torch.tensor([0, 2])},
    "MultiLabelClassificationTask": {"label": torch.tensor([[0, 1, 1], [1, 0, 0]])},
}
PREDICTED = {
    "SemanticSegmentationTask": (2, SIZE, SIZE),
    "PixelwiseRegressionTask": (2, SIZE, SIZE),
    "ScalarRegressionTask": (2, 2),
    "ClassificationTask": (2,),
    "MultiLabelClassificationTask": (2, 3),
}


@pytest.mark.parametrize("name", TASKS)
def test_task_trains_and_predicts(
    make_task: MakeTask, make_trainer: MakeTrainer, pictures: Tensor, name: str
) -> None:
    model_args, arguments = TASKS[name]
    task = make_task(name, model_args | PRUNED, **arguments)
    data = batches(image=pictures, **TARGETS[name])
    assert depth_of(task) == KEPT
    train(task, data, make_trainer)
    assert predict(task, data, make_trainer).shape == PREDICTED[name]
    make_trainer().test(task, data, verbose=False)


def detection_batch(samples: list[dict[str, Any]]) -> dict[str, Any]:
    batch: dict[str, Any] = {key: [sample[key] for sample in samples] for key in samples[0]}
    return batch | {"image": torch.stack(batch["image"])}


FRAMEWORKS: dict[str, dict[str, Any]] = {
    "faster-rcnn": {"framework_box_score_thresh": 0.0, "framework_min_size": SIZE},
    "fcos": {"framework_score_thresh": 0.0, "framework_min_size": SIZE},
    "retinanet": {"framework_score_thresh": 0.0, "framework_min_size": SIZE},
    "detr": {},
}
"""Untrained models are sure of nothing: every box counts."""


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_detection_trains_and_predicts(
    make_task: MakeTask, make_trainer: MakeTrainer, pictures: Tensor, framework: str
) -> None:
    pyramid = {"name": "FeaturePyramidNetworkNeck", "out_channel": 32}
    necks = [SELECT, RESHAPE, PYRAMID, pyramid]
    model_args = CLASSES | {"framework": framework, "necks": necks} | FRAMEWORKS[framework]
    how = {"model_factory": "ObjectDetectionModelFactory", "score_threshold": 0.0}
    task = make_task("ObjectDetectionTask", model_args | PRUNED, **how)
    boxes = torch.tensor([[[4.0, 4.0, 30.0, 30.0]], [[10.0, 8.0, 60.0, 50.0]]])
    data = batches(image=pictures, boxes=boxes, labels=torch.tensor([[1], [2]]))
    data.collate_fn = detection_batch
    assert depth_of(task) == KEPT
    train(task, data, make_trainer)

    predicted = predict(task, data, make_trainer)
    for found in predicted:
        assert found["boxes"].shape == (len(found["scores"]), 4)
    assert sum(len(found["scores"]) for found in predicted) > 0


@pytest.mark.parametrize(
    ("pooling", "channels"), [("mean", 192), ("max", 192), ("diff", 192), ("concat", 384)]
)
def test_temporal_wrapper_trains_and_predicts(
    make_task: MakeTask, make_trainer: MakeTrainer, pooling: str, channels: int
) -> None:
    """Each date goes through the backbone by itself; what it gives is pooled over time."""
    temporal = {
        "backbone_use_temporal": True,
        "backbone_temporal_pooling": pooling,
        "backbone_temporal_n_timestamps": 2,
    }
    model_args = UNET | CLASSES | temporal | PRUNED
    name = "SemanticSegmentationTask"
    task = make_task(name, model_args, **CE)
    assert task.model.encoder.out_channels == [channels] * 12
    assert find_pruned(task) is task.model.encoder.encoder

    dates = torch.randn(2, 6, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    data = batches(image=dates, **TARGETS[name])
    assert depth_of(task) == KEPT
    train(task, data, make_trainer)
    assert predict(task, data, make_trainer).shape == PREDICTED[name]


def test_temporal_wrapper_pools_the_outputs_of_each_date(make_task: MakeTask) -> None:
    model_args = UNET | CLASSES | {"backbone_use_temporal": True} | PRUNED
    wrapper = make_task("SemanticSegmentationTask", model_args).model.encoder.eval()
    dates = torch.randn(1, 6, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    apart = [wrapper.encoder(dates[:, :, date]) for date in range(2)]
    for pooled, first, second in zip(wrapper(dates), *apart, strict=True):
        torch.testing.assert_close(pooled, (first + second) / 2)


def embed(
    make_task: MakeTask, make_trainer: MakeTrainer, pictures: Tensor, folder: Path, **how: Any
) -> Any:
    """Write the embeddings of two images and give the task."""
    task = make_task("EmbeddingGenerationTask", output_dir=str(folder), has_cls=True, **how)
    data = batches(image=pictures, filename=["first.tif", "second.tif"])
    make_trainer().predict(task, data, return_predictions=False)
    return task


@pytest.mark.parametrize(
    ("outputs", "layers", "numbers", "count"),
    [("full_depth", [4, 8, -1], [5, 9, 12], 12), ("kept", [2, 3, -1], [3, 4, 5], KEPT)],
    ids=["full depth", "kept"],
)
def test_embeddings_of_layers_are_those_of_the_documented_blocks(
    make_task: MakeTask,
    make_trainer: MakeTrainer,
    pictures: Tensor,
    tmp_path: Path,
    outputs: str,
    layers: list[int],
    numbers: list[int],
    count: int,
) -> None:
    """TerraTorch names layers by their index: here the third, fourth and last kept block."""
    folder = tmp_path / "embeddings"
    model_args = PRUNED | {"backbone_outputs": outputs}
    task = embed(make_task, make_trainer, pictures, folder, model_args=model_args, layers=layers)
    kept = task.model.encoder.forward_features(pictures)
    for position, block in enumerate([3, 4, 5]):
        with rasterio.open(folder / f"layer_{position:02d}" / "first_embedding.tif") as file:
            written = torch.from_numpy(file.read())
        by_hand = kept[block - 1][0, 1:].T.unflatten(1, (4, 4))
        torch.testing.assert_close(written, by_hand)
    summary = json.loads((folder / "configuration_summary.json").read_text())
    assert summary["model_layer_count"] == count
    assert [layer["layer_number"] for layer in summary["layers"]] == numbers


def test_pooled_embeddings_are_those_of_the_last_kept_block(
    make_task: MakeTask, make_trainer: MakeTrainer, pictures: Tensor, tmp_path: Path
) -> None:
    import pandas

    folder = tmp_path / "embeddings"
    how = {"embedding_pooling": "mean", "output_format": "parquet"}
    task = embed(make_task, make_trainer, pictures, folder, model_args=PRUNED, **how)
    row = pandas.read_parquet(folder / "layer_00" / "second_embedding.parquet").iloc[0]
    by_hand = task.model.encoder.forward_features(pictures)[KEPT - 1][1, 1:].mean(dim=0)
    torch.testing.assert_close(torch.tensor(row["embedding"]).float(), by_hand)


@pytest.mark.parametrize(
    ("which", "layer"),
    [(FULL, 12), (PRUNED, 12), (PRUNED | {"backbone_outputs": "kept"}, KEPT)],
    ids=["full", "pruned", "kept"],
)
def test_layers_that_do_not_exist_are_refused_as_with_the_full_backbone(
    make_task: MakeTask, tmp_path: Path, which: dict[str, Any], layer: int
) -> None:
    how: dict[str, Any] = {"output_dir": str(tmp_path), "layers": [layer]}
    with pytest.raises(IndexError, match="list index out of range"):
        make_task("EmbeddingGenerationTask", which, **how)
