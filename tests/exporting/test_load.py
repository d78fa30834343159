"""``simpler.load``: the same task, whatever its class, without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import terratorch_simpler as simpler
from terratorch_simpler.exporting.load import bare_model_args
from tests.conftest import TINY, Hub
from tests.exporting.conftest import BACKBONE, SEGMENTATION, save_task


def test_it_gives_what_lightning_loads(saved: Path, tile: Tensor) -> None:
    from terratorch.tasks import SemanticSegmentationTask

    loaded: Any = simpler.load(saved)
    assert type(loaded) is SemanticSegmentationTask
    assert not loaded.training
    other: Any = SemanticSegmentationTask.load_from_checkpoint(saved, map_location="cpu").eval()
    with torch.inference_mode():
        assert torch.equal(loaded(tile).output, other(tile).output)


@pytest.mark.parametrize(
    "task", ["PixelwiseRegressionTask", "ClassificationTask", "MultiLabelClassificationTask"]
)
def test_any_task_of_terratorch_loads(task: str, tmp_path: Path, tile: Tensor) -> None:
    model_args: dict[str, Any] = {"backbone": TINY, **BACKBONE}
    if task == "PixelwiseRegressionTask":
        model_args |= {"necks": SEGMENTATION["necks"], "decoder": "FCNDecoder"}
    else:
        model_args |= {"necks": [{"name": "AggregateTokens"}], "decoder": "IdentityDecoder"}
        model_args["num_classes"] = 3
    path = save_task(tmp_path / "a.ckpt", model_args, task)
    assert type(simpler.load(path)).__name__ == task


def test_nothing_is_downloaded(tmp_path: Path, hub: Hub, saved: Path) -> None:
    # The hub is out of reach, and holds nothing.
    content = torch.load(saved, weights_only=True)
    arguments = content["hyper_parameters"]["model_args"]
    arguments |= {"backbone_pretrained": True, "backbone_ckpt_path": str(tmp_path / "gone.pt")}
    path = tmp_path / "a.ckpt"
    torch.save(content, path)
    assert simpler.load(path) is not None


def test_a_plan_that_is_gone_is_not_needed() -> None:
    given = {**SEGMENTATION, "backbone_plan": "gone.json"}
    assert "backbone_plan" not in bare_model_args(given)


def test_weights_that_do_not_fit_are_said(saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True)
    content["hyper_parameters"]["model_args"]["backbone_keep_blocks"] = 4
    path = tmp_path / "a.ckpt"
    torch.save(content, path)
    with pytest.raises(ValueError, match="do not fit the model that it says"):
        simpler.load(path)


def test_a_model_that_cannot_be_built_is_said(saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True)
    content["hyper_parameters"]["model_args"]["backbone"] = "simpler_prithvi_eo_v2_tiny"
    path = tmp_path / "a.ckpt"
    torch.save(content, path)
    with pytest.raises(ValueError, match="did you mean"):
        simpler.load(path)
