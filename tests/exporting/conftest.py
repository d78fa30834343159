"""Checkpoints of small tasks, saved as a Lightning trainer saves them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from terratorch_simpler.exporting import proof
from tests.conftest import TINY
from tests.exporting.forks import Forks
from tests.rasters import BANDS

SIZE = 64
PRUNED = {"backbone": f"simpler_{TINY}", "backbone_keep_blocks": 5}
BACKBONE = {"backbone_img_size": SIZE, "backbone_bands": BANDS, "backbone_pretrained": False}
UNET: dict[str, Any] = {
    "necks": [
        {"name": "SelectIndices", "indices": [2, 5, 8, 11]},
        {"name": "ReshapeTokensToImage"},
        {"name": "LearnedInterpolateToPyramidal"},
    ],
    "decoder": "UNetDecoder",
    "decoder_channels": [16, 8, 8, 4],
}
SEGMENTATION = {**PRUNED, **BACKBONE, **UNET, "num_classes": 3}
Save = Callable[..., Path]


def save_task(
    path: Path,
    model_args: dict[str, Any],
    task: str = "SemanticSegmentationTask",
    callback: bool = True,
    **arguments: Any,
) -> Path:
    """Save a task of seeded weights; ``callback`` is whether SimplerCallback is in the trainer."""
    import terratorch.tasks
    from lightning.pytorch import Trainer

    from terratorch_simpler import SimplerCallback

    torch.manual_seed(0)
    built: Any = getattr(terratorch.tasks, task)(
        model_args=model_args, model_factory="EncoderDecoderFactory", **arguments
    )
    # Batch norms that have seen nothing are the same in training as in evaluation.
    for name, buffer in built.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    trainer = Trainer(
        logger=False, accelerator="cpu", callbacks=[SimplerCallback()] if callback else None
    )
    trainer.strategy.connect(built)
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a segmentation task whose Prithvi keeps 5 of 12 blocks."""
    path = tmp_path_factory.mktemp("saved") / "model.ckpt"
    return save_task(path, SEGMENTATION, ignore_index=-1)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Processes that have imported TerraTorch, at the price of one."""
    with Forks() as forks:
        yield forks


@pytest.fixture
def forked(forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proofs that need TerraTorch are made in forks; torch and ONNX alone start anew."""
    start = proof.start

    def fork(request: Path) -> subprocess.CompletedProcess[str]:
        kind = json.loads(request.read_text())["kind"]
        return start(request) if kind in ("onnx", "pt2") else forks.run(request)

    monkeypatch.setattr(proof, "start", fork)


@pytest.fixture(scope="session")
def tile() -> Tensor:
    """Two tiles for it."""
    return torch.randn(2, 6, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
