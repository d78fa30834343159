"""TerraTorch's data, from files, into a pruned backbone."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.contract.conftest import (
    BACKBONE,
    CE,
    FULL,
    KEPT,
    PRUNED,
    SIZE,
    UNET,
    MakeTask,
    MakeTrainer,
    depth_of,
    predict,
    train,
)
from tests.rasters import BANDS, landscape, write_raster

pytestmark = pytest.mark.slow

SEGMENTATION = UNET | {"num_classes": 3}
FRAMES = 3
MODALITIES = {"S2L2A": 12, "S1RTC": 2}
"""Bands of each."""


def write_samples(folder: Path, suffixes: dict[str, int], count: int = 2) -> Path:
    """Images of so many bands, ``<sample>_<suffix>.tif``, and a mask for each sample."""
    for sample in range(count):
        for suffix, bands in suffixes.items():
            image = landscape(bands, SIZE, seed=sample)
            write_raster(folder / f"sample{sample}_{suffix}.tif", image, dtype="float32")
        mask = np.arange(SIZE**2).reshape(1, SIZE, SIZE) % 3
        write_raster(folder / "masks" / f"sample{sample}_mask.tif", mask, dtype="int16")
    return folder


def test_frames_of_a_multi_temporal_datamodule(
    make_task: MakeTask, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    from terratorch.datamodules import GenericNonGeoSegmentationDataModule

    folder = write_samples(tmp_path / "data", {"dates": FRAMES * len(BANDS)})
    roots: dict[str, Any] = {
        "train_data_root": folder,
        "val_data_root": folder,
        "predict_data_root": folder,
        "train_label_data_root": folder / "masks",
        "val_label_data_root": folder / "masks",
    }
    datamodule = GenericNonGeoSegmentationDataModule(
        batch_size=2,
        num_workers=0,
        num_classes=3,
        **roots,
        img_grep="*_dates.tif",
        label_grep="*_mask.tif",
        means=[1800.0] * len(BANDS),
        stds=[400.0] * len(BANDS),
        dataset_bands=[*BANDS],
        output_bands=[*BANDS],
        expand_temporal_dimension=True,
    )
    necks = [dict(neck) for neck in UNET["necks"]]
    necks[1]["effective_time_dim"] = FRAMES
    frames = {"backbone_num_frames": FRAMES, "necks": necks}
    task = make_task("SemanticSegmentationTask", SEGMENTATION | frames | PRUNED, **CE)
    assert task.model.encoder.out_channels == [FRAMES * 192] * 12

    assert depth_of(task) == KEPT
    train(task, datamodule, make_trainer)
    assert predict(task, datamodule, make_trainer).shape == (2, SIZE, SIZE)
    datasets: Any = datamodule
    image = datasets.train_dataset[0]["image"]
    assert tuple(image.shape) == (len(BANDS), FRAMES, SIZE, SIZE)


TERRAMIND: dict[str, Any] = {"backbone": "terramind_v1_tiny"}
PRUNED_TERRAMIND: dict[str, Any] = {
    "backbone": "simpler_terramind_v1_tiny",
    "backbone_keep_blocks": KEPT,
}


@pytest.mark.parametrize(
    ("which", "depth"), [(TERRAMIND, 12), (PRUNED_TERRAMIND, KEPT)], ids=["full", "pruned"]
)
@pytest.mark.parametrize(("merge", "channels"), [("mean", 192), ("concat", 384)])
def test_modalities_of_a_multi_modal_datamodule(
    make_task: MakeTask,
    make_trainer: MakeTrainer,
    tmp_path: Path,
    which: dict[str, Any],
    depth: int,
    merge: str,
    channels: int,
) -> None:
    from terratorch.datamodules import GenericMultiModalDataModule

    folder = write_samples(tmp_path / "data", MODALITIES)
    datamodule = GenericMultiModalDataModule(
        task="segmentation",
        batch_size=2,
        num_classes=3,
        modalities=list(MODALITIES),
        means={name: [1800.0] * bands for name, bands in MODALITIES.items()},
        stds={name: [400.0] * bands for name, bands in MODALITIES.items()},
        data_root=str(folder),
        label_data_root=str(folder / "masks"),
        image_grep={name: f"*_{name}.tif" for name in MODALITIES},
        label_grep="*_mask.tif",
        rgb_indices={"S2L2A": [3, 2, 1]},
    )
    necks = [dict(neck) for neck in UNET["necks"]]
    necks[1]["remove_cls_token"] = False
    backbone = {
        "backbone_bands": None,
        "backbone_modalities": list(MODALITIES),
        "backbone_merge_method": merge,
    }
    model_args = SEGMENTATION | {"necks": necks} | backbone | which
    task = make_task("SemanticSegmentationTask", model_args, **CE)
    assert task.model.encoder.out_channels == [channels] * 12
    assert depth_of(task) == depth
    train(task, datamodule, make_trainer)
    assert predict(task, datamodule, make_trainer).shape == (2, SIZE, SIZE)


DATAMODULE = "terratorch.datamodules.GenericNonGeoSegmentationDataModule"


def write_config(folder: Path, which: dict[str, Any]) -> Path:
    """The config of a segmentation task, and beside it the images in ``data``."""
    data = write_samples(folder / "data", {"image": len(BANDS)})
    arguments: dict[str, Any] = {"batch_size": 1, "num_workers": 0, "num_classes": 3}
    for split in ("train", "val"):
        arguments[f"{split}_data_root"] = str(data)
        arguments[f"{split}_label_data_root"] = str(data / "masks")
    arguments |= {"img_grep": "*_image.tif", "label_grep": "*_mask.tif"}
    arguments |= {"means": [1800.0] * len(BANDS), "stds": [400.0] * len(BANDS)}
    model_args = BACKBONE | SEGMENTATION | which
    task = {"model_factory": "EncoderDecoderFactory", "model_args": model_args} | CE
    callbacks = [{"class_path": "terratorch_simpler.SimplerCallback"}]
    trainer = {"accelerator": "cpu", "logger": False, "callbacks": callbacks}
    config = {
        "trainer": trainer | {"default_root_dir": str(folder)},
        "data": {"class_path": DATAMODULE, "init_args": arguments},
        "model": {"class_path": "terratorch.tasks.SemanticSegmentationTask", "init_args": task},
    }
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize("which", [FULL, PRUNED], ids=["full", "pruned"])
def test_statistics_of_a_config(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    which: dict[str, Any],
) -> None:
    """`terratorch compute_statistics -c CONFIG` builds the model as well."""
    from terratorch.cli_tools import build_lightning_cli

    monkeypatch.setattr(sys, "argv", ["terratorch"])
    with caplog.at_level(logging.INFO, "terratorch"):
        build_lightning_cli(["compute_statistics", "-c", str(write_config(tmp_path, which))])
    images = np.stack([landscape(len(BANDS), SIZE, seed=sample) for sample in range(2)])
    logged = [yaml.safe_load(text) for text in caplog.messages if text.startswith("means:")]
    assert len(logged) == 1
    np.testing.assert_allclose(logged[0]["means"], images.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(logged[0]["stds"], images.std(axis=(0, 2, 3)), rtol=1e-4)


def test_inference_model_of_a_config_and_a_checkpoint(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TerraTorch's own way to run a trained model from Python."""
    from terratorch.cli_tools import LightningInferenceModel

    monkeypatch.setattr(sys, "argv", ["terratorch"])
    config = write_config(tmp_path, PRUNED)
    task = make_task("SemanticSegmentationTask", SEGMENTATION | PRUNED, **CE).eval()
    # Weights that no seed gives.
    torch.nn.init.normal_(task.model.encoder.norm.weight)
    torch.save({"state_dict": task.state_dict()}, tmp_path / "task.ckpt")
    # It says that it takes a Path, and its parser takes text only.
    inference: Any = LightningInferenceModel
    model = inference.from_config(str(config), tmp_path / "task.ckpt")
    classes, names = model.inference_on_dir(str(tmp_path / "data"))
    assert [Path(name).name for name in names] == ["sample0_image.tif", "sample1_image.tif"]
    images = np.stack([landscape(len(BANDS), SIZE, seed=sample) for sample in range(2)])
    # One by one, as it does: a batch of two is rounded differently.
    with torch.no_grad():
        expected = torch.cat(
            [
                task(image[None]).output.argmax(dim=1)
                for image in (torch.from_numpy(images) - 1800) / 400
            ]
        )
    assert torch.equal(classes, expected)
