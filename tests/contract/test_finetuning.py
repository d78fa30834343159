"""TerraTorch's ways to fine-tune, store and run a model, with a pruned backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from terratorch_simpler.backbones.pruned import find_pruned
from tests.contract.conftest import (
    CE,
    KEPT,
    PRUNED,
    SIZE,
    UNET,
    MakeTask,
    MakeTrainer,
    batches,
    changed,
    copy_of,
)

pytestmark = pytest.mark.slow

NAME = "SemanticSegmentationTask"
SEGMENTATION = UNET | {"num_classes": 3} | PRUNED
LORA: dict[str, Any] = {
    "peft_config": {
        "method": "LORA",
        "peft_config_kwargs": {"target_modules": ["attn.qkv"], "lora_alpha": 16, "r": 4},
    }
}
SEPARATE: dict[str, Any] = {
    "peft_config": {
        "method": "LORA",
        "replace_qkv": "qkv",
        "peft_config_kwargs": {"target_modules": ["qkv.q_linear", "qkv.v_linear"], "r": 4},
    }
}
"""As TerraTorch documents it for Prithvi: queries and values only."""


def fit(task: Any, pictures: Tensor, make_trainer: MakeTrainer) -> set[str]:
    """Train one step; gives the names of the weights that moved."""
    mask = torch.arange(2 * SIZE**2).reshape(2, SIZE, SIZE) % 3
    before = copy_of(task.model)
    trainer = make_trainer()
    trainer.fit(task, batches(image=pictures, mask=mask))
    assert trainer.global_step == 1
    return changed(task.model, before)


def parts(names: set[str]) -> set[str]:
    """The parts of a model that these weights belong to."""
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize(
    ("peft", "adapted"), [(LORA, 1), (SEPARATE, 2)], ids=["qkv", "queries and values"]
)
def test_lora_trains_in_the_kept_blocks_only(
    make_task: MakeTask, make_trainer: MakeTrainer, pictures: Tensor, peft: Any, adapted: int
) -> None:
    pytest.importorskip("peft")
    with pytest.warns(UserWarning, match="PEFT without a pretrained backbone"):
        task = make_task(NAME, SEGMENTATION | peft, **CE)
    assert task.model.encoder.out_channels == [192] * 12
    pruned: Any = find_pruned(task)
    assert len(pruned.blocks) == KEPT
    trainable = {name for name, weight in pruned.named_parameters() if weight.requires_grad}
    assert all("lora_" in name for name in trainable)
    # Two matrices for each adapted layer of each kept block.
    for block in range(KEPT):
        assert sum(name.startswith(f"blocks.{block}.attn") for name in trainable) == 2 * adapted
    assert len(trainable) == 2 * adapted * KEPT

    moved = fit(task, pictures, make_trainer)
    assert parts(moved) == {"encoder", "neck", "decoder", "head"}
    # The first step moves B only: A has no gradient while B is zero.
    in_backbone = {name for name in moved if name.startswith("encoder")}
    assert len(in_backbone) == adapted * KEPT
    assert all("lora_B" in name for name in in_backbone)


@pytest.mark.parametrize("peft", [{}, LORA, SEPARATE], ids=["plain", "qkv", "queries and values"])
def test_checkpoint_gives_the_same_outputs(
    make_task: MakeTask, make_trainer: MakeTrainer, pictures: Tensor, tmp_path: Path, peft: Any
) -> None:
    from terratorch.tasks import SemanticSegmentationTask

    if peft:
        pytest.importorskip("peft")
    task = make_task(NAME, SEGMENTATION | peft, **CE)
    fit(task, pictures, make_trainer)
    task.trainer.save_checkpoint(tmp_path / "task.ckpt")
    loaded = SemanticSegmentationTask.load_from_checkpoint(tmp_path / "task.ckpt").eval()
    pruned: Any = find_pruned(loaded)
    assert (pruned.kept_blocks, pruned.full_depth) == ([0, 1, 2, 3, 4], 12)
    with torch.no_grad():
        expected = task.eval()(pictures).output
        assert torch.equal(loaded(pictures).output, expected)
        # The weights come from the file: a fresh task gives something else.
        fresh = make_task(NAME, SEGMENTATION | peft, **CE).eval()
        assert not torch.equal(fresh(pictures).output, expected)


@pytest.mark.parametrize(
    ("frozen", "trained"),
    [
        ({"freeze_backbone": True}, {"neck", "decoder", "head"}),
        ({"freeze_decoder": True}, {"encoder", "neck", "head"}),
        ({"freeze_backbone": True, "freeze_decoder": True}, {"neck", "head"}),
        ({"freeze_backbone": True, "freeze_head": True}, {"neck", "decoder"}),
    ],
    ids=["backbone", "decoder", "backbone and decoder", "backbone and head"],
)
def test_frozen_parts_stay_as_they_are(
    make_task: MakeTask,
    make_trainer: MakeTrainer,
    pictures: Tensor,
    frozen: dict[str, bool],
    trained: set[str],
) -> None:
    task = make_task(NAME, SEGMENTATION, **CE, **frozen)
    may_train = {name for name, weight in task.model.named_parameters() if weight.requires_grad}
    assert parts(may_train) == trained
    assert parts(fit(task, pictures, make_trainer)) == trained


def test_frozen_backbone_gets_no_gradients(make_task: MakeTask, pictures: Tensor) -> None:
    task = make_task(NAME, SEGMENTATION, freeze_backbone=True)
    task(pictures).output.square().mean().backward()
    assert all(weight.grad is None for weight in task.model.encoder.parameters())
    assert all(not output.requires_grad for output in task.model.encoder(pictures))
    assert all(weight.grad is not None for weight in task.model.decoder.parameters())


def test_only_the_head_trains_on_pooled_features(
    make_task: MakeTask, make_trainer: MakeTrainer, pictures: Tensor
) -> None:
    """Linear probing, as TerraTorch does it: a frozen backbone, no decoder and one layer."""
    probe = {"necks": [{"name": "ReshapeTokensToImage"}], "decoder": "IdentityDecoder"}
    model_args = probe | {"num_classes": 3} | PRUNED
    task = make_task("ClassificationTask", model_args, **CE, freeze_backbone=True)
    before = copy_of(task.model)
    make_trainer().fit(task, batches(image=pictures, label=torch.tensor([0, 2])))
    assert changed(task.model, before) == {"head.head.2.weight", "head.head.2.bias"}


def test_learning_rates_of_layers_reach_the_kept_blocks(
    make_task: MakeTask, make_trainer: MakeTrainer, pictures: Tensor
) -> None:
    """An old config may also name a block that is gone."""
    rates = {f"encoder.blocks.{block}.": 10.0**-block for block in range(1, KEPT + 1)}
    task = make_task(NAME, SEGMENTATION, **CE, lr=0.5, lr_overrides=rates, optimizer="SGD")
    groups = task.configure_optimizers()["optimizer"].param_groups
    assert [group["lr"] for group in groups] == [0.1, 0.01, 0.001, 1e-4, 1e-5, 0.5]
    for block, group in enumerate(groups[:KEPT], start=1):
        expected = list(task.model.encoder.blocks[block].parameters()) if block < KEPT else []
        assert [*map(id, group["params"])] == [*map(id, expected)]
    grouped = sum(len(group["params"]) for group in groups)
    assert grouped == len(list(task.parameters()))
    assert "encoder.blocks.4.mlp.fc1.weight" in fit(task, pictures, make_trainer)


def test_tiled_inference_puts_the_crops_side_by_side(
    make_task: MakeTask, make_trainer: MakeTrainer
) -> None:
    scene = torch.randn(1, 6, SIZE, 2 * SIZE, generator=torch.Generator().manual_seed(3))
    tiles = {"crop": SIZE, "stride": SIZE, "delta": 0, "padding": False, "blend_overlaps": False}
    task = make_task(NAME, SEGMENTATION, tiled_inference_parameters=tiles).eval()
    (((predicted, _), _),) = make_trainer().predict(task, batches(image=scene)) or []
    assert predicted.shape == (1, SIZE, 2 * SIZE)
    halves = (scene[..., :SIZE], scene[..., SIZE:])
    with torch.no_grad():
        crops = [task(crop).output.argmax(dim=1) for crop in halves]
    assert torch.equal(predicted, torch.cat(crops, dim=-1))
    assert predicted.unique().numel() > 1


def test_tiled_inference_with_overlap_covers_the_scene(make_task: MakeTask) -> None:
    from terratorch.tasks.tiled_inference import tiled_inference

    scene = torch.randn(2, 6, 90, 150, generator=torch.Generator().manual_seed(3))
    task = make_task(NAME, SEGMENTATION).eval()

    def run(images: Tensor) -> Tensor:
        output: Tensor = task(images).output
        return output

    output: Any = tiled_inference(run, scene, crop=SIZE, stride=48, delta=4)
    assert output.shape == (2, 3, 90, 150)
    assert output.isfinite().all()
