"""Configs of TerraTorch's model factories: those that work, and why the others do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from terratorch_simpler.cli import main
from terratorch_simpler.profiling.profiled import profiled_model
from terratorch_simpler.task.build import read_task
from terratorch_simpler.task.checkpoint import running_backbone
from terratorch_simpler.task.config import TaskConfig
from terratorch_simpler.task.factories import BY_NAME, check_factory
from terratorch_simpler.task.sample import sample_config
from tests.configs import write_detection, write_legacy
from tests.rasters import BANDS

pytestmark = pytest.mark.filterwarnings(
    "ignore:The Object Detection Task has to be considered experimental",
)


def test_every_factory_of_terratorch_is_known() -> None:
    import terratorch.models  # noqa: F401 - fills the registry
    from terratorch.registry import MODEL_FACTORY_REGISTRY

    assert set(BY_NAME) <= set(MODEL_FACTORY_REGISTRY)
    for name in set(MODEL_FACTORY_REGISTRY) - set(BY_NAME):
        with pytest.raises(ValueError, match=f"uses model_factory '{name}', which ") as caught:
            check_factory(name, Path("task.yaml"))
        assert "none of TerraTorch's" not in str(caught.value)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (None, "task.yaml names no model_factory in model.init_args: to prune, use EncoderDecoder"),
        ("MyFactory", "'MyFactory', which is none of TerraTorch's: to prune, use EncoderDecoderF"),
        ("FullModelFactory", "which builds a whole model by its name in model"),
    ],
)
def test_another_factory_is_refused_with_what_it_does(factory: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_factory(factory, Path("task.yaml"))


# Objects


@pytest.fixture(scope="module")
def detection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config that detects objects, and its images."""
    return write_detection(tmp_path_factory.mktemp("detection"))


def test_the_backbone_of_a_detector_is_found(detection: Path) -> None:
    task = read_task(TaskConfig.read(detection))
    assert (task.task, task.labels, task.bands) == ("ObjectDetectionTask", None, BANDS)
    assert (task.backbone.name, task.backbone.depth) == ("prithvi_eo_tiny", 4)
    assert task.normalisation() == ([1800.0] * 6, [400.0] * 6)
    # Some datamodules divide the pixels before, which chips of other tiles are not.
    datamodule: Any = task.datamodule
    datamodule.aug.max_pixel_value = 2
    assert task.normalisation() == ([3600.0] * 6, [800.0] * 6)


@pytest.mark.slow
def test_the_backbone_of_a_detector_is_profiled_with_its_necks(
    detection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "costs"
    command = ["profile", "--config", str(detection), "--output", str(folder)]
    main([*command, "--rounds", "1", "--accelerator", "cpu"])
    said = "task (prithvi_eo_tiny with its necks): batches of 2, 6 x 64 x 64, on cpu"
    assert said in capsys.readouterr().out
    assert len((folder / "profile.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize("framework", ["retinanet", "detr"])
def test_the_model_of_a_detector_is_taken_up_to_its_necks(framework: str) -> None:
    from terratorch.tasks import ObjectDetectionTask

    necks = [
        {"name": "ReshapeTokensToImage"},
        {"name": "LearnedInterpolateToPyramidal"},
        {"name": "FeaturePyramidNetworkNeck", "out_channel": 32},
    ]
    backbone = {"backbone": "prithvi_eo_tiny", "backbone_img_size": 64, "backbone_bands": BANDS}
    model_args: dict[str, Any] = backbone | {"framework": framework, "num_classes": 3}
    model_args["necks"] = necks
    task = ObjectDetectionTask("ObjectDetectionModelFactory", model_args)
    assert str(running_backbone(task, None)) == "prithvi_eo_tiny, all 4 blocks"
    model: Any = task.model
    profiled = profiled_model(model)
    assert profiled.label == "PrithviViT with its necks"
    assert profiled.backbone.module is model.torchvision_model.backbone.backbone
    image = torch.randn(2, 6, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = profiled.pruned(2)(image)
    assert profiled.whole is model.torchvision_model.backbone
    assert {value.shape[1] for value in features.values()} == {32}


# Prithvi's own


@pytest.mark.filterwarnings("ignore:PrithviModelFactory is deprecated")
def test_the_backbone_of_an_older_config_is_what_its_factory_builds(tmp_path: Path) -> None:
    config = write_legacy(tmp_path, sample_config())
    task = read_task(TaskConfig.read(config))
    # Loaded unasked, as that factory does: the weights are those of the embedded sample.
    assert task.backbone.pretrained
    assert task.bands == BANDS
    assert task.backbone.arguments == {
        "pretrained": True,
        "in_chans": 6,
        "bands": BANDS,
        "ckpt_path": task.backbone.arguments["ckpt_path"],
    }
    statistics = task.backbone.statistics(BANDS)
    assert statistics is not None
    assert task.normalisation() == (list(statistics[0]), list(statistics[1]))
    assert task.labels is not None
    assert task.labels.num_classes == 7
