"""One config for the full and the pruned backbone, and the shortest possible training of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from terratorch_simpler.backbones.pruned import find_pruned
from tests.conftest import TINY
from tests.rasters import BANDS

Build = Callable[..., Any]
MakeTask = Callable[..., Any]
MakeTrainer = Callable[[], Trainer]

KEPT = 5
FULL: dict[str, Any] = {"backbone": TINY}
PRUNED: dict[str, Any] = {"backbone": f"simpler_{TINY}", "backbone_keep_blocks": KEPT}
"""The only lines that differ between the two configs."""

SIZE = 64
BACKBONE: dict[str, Any] = {"backbone_img_size": SIZE, "backbone_bands": BANDS}
SELECT: dict[str, Any] = {"name": "SelectIndices", "indices": [2, 5, 8, 11]}
RESHAPE: dict[str, Any] = {"name": "ReshapeTokensToImage"}
PYRAMID: dict[str, Any] = {"name": "LearnedInterpolateToPyramidal"}
UNET: dict[str, Any] = {
    "necks": [SELECT, RESHAPE, PYRAMID],
    "decoder": "UNetDecoder",
    "decoder_channels": [16, 8, 8, 4],
}
CE: dict[str, Any] = {"loss": "ce", "ignore_index": -1}


def untouched(blocks: Iterable[nn.Module]) -> list[int]:
    """Positions of the blocks where some weight has no gradient."""
    return [
        index
        for index, block in enumerate(blocks)
        if not all(weight.grad is not None and weight.grad.any() for weight in block.parameters())
    ]


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Names of the weights that differ from a copy made earlier."""
    return {
        name
        for name, weight in module.named_parameters()
        if not torch.equal(weight.detach(), before[name])
    }


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in module.named_parameters()}


def batches(**fields: Any) -> DataLoader[Any]:
    """A loader of one batch, given each field of all samples."""
    samples = [
        dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)
    ]
    return DataLoader(cast(Any, samples), batch_size=len(samples))


def depth_of(task: Any) -> int:
    """Blocks that the task's backbone runs, of 12."""
    pruned = find_pruned(task)
    return 12 if pruned is None else len(pruned.kept_blocks)


def train(
    task: Any, data: DataLoader[Any] | LightningDataModule, make_trainer: MakeTrainer
) -> None:
    """Train one step, which moves every weight of every block, and validate."""
    backbone = find_pruned(task) or task.model.encoder
    before = copy_of(backbone)
    trainer = make_trainer()
    if isinstance(data, LightningDataModule):
        trainer.fit(task, datamodule=data)
    else:
        trainer.fit(task, data, data)
    assert trainer.global_step == 1
    assert {"val/loss", "val_map"} & trainer.callback_metrics.keys()
    # The blocks of a Prithvi, of a TerraMind.
    blocks = {name for name in before if name.startswith(("blocks.", "encoder."))}
    assert {int(name.split(".")[1]) for name in blocks} == set(range(depth_of(task)))
    assert blocks <= changed(backbone, before)


def predict(
    task: Any, data: DataLoader[Any] | LightningDataModule, make_trainer: MakeTrainer
) -> Any:
    """What the task says of one batch."""
    (prediction,) = make_trainer().predict(task, data) or []
    if isinstance(prediction, list):
        return prediction
    predicted, _file_names = prediction
    # Segmentation says of what kind its prediction is.
    return predicted[0] if isinstance(predicted, tuple) else predicted


@pytest.fixture(scope="session")
def pictures() -> Tensor:
    """Two images of the size that the config names."""
    return torch.randn(2, 6, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def make_task() -> MakeTask:
    """A task of TerraTorch by its class name, with seeded weights."""
    import terratorch.tasks

    def make(name: str, model_args: dict[str, Any], **arguments: Any) -> LightningModule:
        torch.manual_seed(0)
        if name not in ("EmbeddingGenerationTask", "ObjectDetectionTask"):
            factory = {"model_factory": "EncoderDecoderFactory", "plot_on_val": False}
            arguments = factory | arguments
        task: LightningModule = getattr(terratorch.tasks, name)(
            model_args=BACKBONE | model_args, **arguments
        )
        return task

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """A trainer that runs one batch of everything."""

    def make() -> Trainer:
        return Trainer(
            accelerator="cpu",
            fast_dev_run=True,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )

    return make
