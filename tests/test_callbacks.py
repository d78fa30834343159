from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from terratorch_simpler.backbones.backbone import load_backbone
from terratorch_simpler.backbones.pruned import PrunedBackbone, find_pruned
from terratorch_simpler.callbacks import (
    SimplerCallback,
    log_plan,
    resolve_hyperparameters,
    summary,
)
from terratorch_simpler.pruning import prune_backbone
from terratorch_simpler.results.plan import PruningPlan
from tests.conftest import MakePlan


class _Task(LightningModule):
    """Holds a backbone and hyperparameters as TerraTorch's tasks do."""

    def __init__(self, backbone: nn.Module, model_args: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters("model_args")
        self.model = nn.Sequential(backbone)


class _Tested(_Task):
    """Is tested, and fitted, without a step."""

    def test_step(self, *_: Any) -> None:
        """Do nothing."""

    def training_step(self, *_: Any) -> None:
        """Do nothing."""

    def configure_optimizers(self) -> None:
        """Train nothing."""


class _Logger:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.images: list[str] = []
        self.experiment = self

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        assert step == 0
        self.metrics |= metrics

    def log_image(self, key: str, images: list[Any], step: int) -> None:
        assert len(images) == 1
        assert step == 0
        self.images.append(key)


@pytest.fixture
def plan(make_plan: MakePlan) -> PruningPlan:
    return make_plan()


@pytest.fixture
def pruned(tiny_prithvi: nn.Module, plan: PruningPlan) -> PrunedBackbone:
    return prune_backbone(load_backbone(tiny_prithvi), plan.kept_blocks, plan=plan)


ARGUMENTS = {"backbone": "simpler_x", "backbone_plan": "p", "backbone_calibration": {"tiles": "t"}}


def test_hyperparameters_are_resolved_to_keep_blocks(
    pruned: PrunedBackbone, plan: PruningPlan
) -> None:
    task = _Task(pruned, dict(ARGUMENTS))
    resolve_hyperparameters(task, pruned)
    assert task.hparams["model_args"] == {
        "backbone": "simpler_x",
        "backbone_keep_blocks": plan.depth,
    }


def test_blocks_that_are_no_prefix_stay_a_list(tiny_prithvi: nn.Module) -> None:
    pruned = prune_backbone(load_backbone(tiny_prithvi), [0, 4, 7])
    task = _Task(pruned, dict(ARGUMENTS))
    resolve_hyperparameters(task, pruned)
    assert task.hparams["model_args"]["backbone_keep_blocks"] == [0, 4, 7]


def test_the_arguments_that_the_user_holds_are_not_changed(pruned: PrunedBackbone) -> None:
    arguments = dict(ARGUMENTS)
    task = _Task(pruned, arguments)
    resolve_hyperparameters(task, pruned)
    assert arguments == ARGUMENTS


def test_the_callback_stores_the_plan_and_takes_it_from_a_checkpoint(
    pruned: PrunedBackbone, plan: PruningPlan
) -> None:
    callback = SimplerCallback()
    callback.setup(Trainer(logger=False), _Task(pruned, {}), "fit")
    assert callback.plan == plan
    later = SimplerCallback()
    assert later.plan is None
    later.load_state_dict(callback.state_dict())
    assert later.plan == plan


def test_a_task_without_a_pruned_backbone_is_warned_of(
    tiny_prithvi: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    task = _Task(tiny_prithvi, {"backbone": "x"})
    callback, trainer = SimplerCallback(), Trainer(logger=False)
    callback.setup(trainer, task, "fit")
    with caplog.at_level(logging.WARNING):
        callback.on_fit_start(trainer, task)
    assert "no pruned backbone" in caplog.text
    assert "Put simpler_ before the backbone's name" in caplog.text
    assert find_pruned(task) is None
    assert task.hparams["model_args"] == {"backbone": "x"}


def _trainer() -> Trainer:
    return Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        max_epochs=1,
        callbacks=[SimplerCallback()],
    )


def _checkpoint(task: LightningModule, path: Path) -> Path:
    trainer = _trainer()
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path)
    return path


def test_a_trainer_in_python_says_which_backbone_a_checkpoint_brings(
    tiny_prithvi: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pruned = prune_backbone(load_backbone(tiny_prithvi), [0, 4, 7])
    task = _Tested(pruned, {"backbone": "simpler_x"})
    trainer, tiles = _trainer(), DataLoader(TensorDataset(torch.zeros(1, 1)))
    trainer.test(task, tiles, verbose=False)
    assert "SIMPLER" not in capsys.readouterr().out
    path = _checkpoint(task, tmp_path / "some.ckpt")
    trainer.test(task, tiles, ckpt_path=path, verbose=False)
    said = f"SIMPLER: simpler_x, 3 of 12 blocks (0, 4, 7), from the checkpoint {path}."
    assert said in capsys.readouterr().out
    trainer.fit(task, tiles)
    assert "as keep_blocks says" in capsys.readouterr().out
    trainer.fit(task, tiles, ckpt_path=path)
    out = capsys.readouterr().out
    assert said in out
    assert "as keep_blocks says" not in out


def test_a_full_checkpoint_is_warned_of_as_what_it_is(
    build: Callable[..., nn.Module], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = _Tested(build(), {"backbone": "x"})
    path = _checkpoint(task, tmp_path / "some.ckpt")
    with caplog.at_level(logging.WARNING, logger="terratorch_simpler"):
        _trainer().fit(task, DataLoader(TensorDataset(torch.zeros(1, 1))), ckpt_path=path)
    assert f"the checkpoint {path} holds x, all its blocks" in caplog.text
    assert "Put simpler_" not in caplog.text


def test_scalars_and_figures_are_logged(pruned: PrunedBackbone, plan: PruningPlan) -> None:
    trainer = Trainer(logger=False)
    logger = _Logger()
    trainer.loggers = [logger]  # type: ignore[list-item]
    log_plan(trainer, pruned)
    assert logger.metrics == {
        "simpler/depth": plan.depth,
        "simpler/total_depth": 12,
        "simpler/confidence": plan.confidence,
        "simpler/parameters_kept": plan.backbone.kept_parameters / plan.backbone.parameters,
    }
    assert logger.images == ["simpler/similarity", "simpler/scores"]


def test_the_summary_says_what_decided(tiny_prithvi: nn.Module, pruned: PrunedBackbone) -> None:
    assert "Keep the first" in summary(pruned)[0]
    assert "3 of 12 blocks" in summary(prune_backbone(load_backbone(tiny_prithvi), [0, 1, 2]))[0]
