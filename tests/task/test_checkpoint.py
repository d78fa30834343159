from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from torch import nn

from terratorch_simpler.backbones.backbone import load_backbone
from terratorch_simpler.pruning import prune_backbone
from terratorch_simpler.task.checkpoint import (
    NamedBackbone,
    asked_backbone,
    check_checkpoint,
    checkpoint_of,
    running_backbone,
)
from tests.conftest import MakePlan

FULL = {"backbone": "x"}
PRUNED = {"backbone": "simpler_x"}
KEEP = "--model.init_args.model_args.backbone_keep_blocks"


class _Task(LightningModule):
    """Holds a backbone and hyperparameters as TerraTorch's tasks do."""

    def __init__(self, backbone: nn.Module, model_args: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters("model_args")
        self.model = nn.ModuleDict({"encoder": backbone})


def _asked(arguments: dict[str, Any], total: int | None = 12) -> NamedBackbone | None:
    return asked_backbone(arguments, NamedBackbone("simpler_x", 4, total))


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (FULL, "all"),
        # What stands beside a full backbone's name is an argument of its own builder.
        (FULL | {"backbone_keep_blocks": 4}, "all"),
        (PRUNED | {"backbone_keep_blocks": 4}, 4),
        (PRUNED | {"backbone_keep_blocks": "4"}, 4),
        (PRUNED | {"backbone_keep_blocks": [0, 1, 2, 3]}, 4),
        (PRUNED | {"backbone_keep_blocks": "[0, 4, 7]"}, [0, 4, 7]),
        (PRUNED | {"backbone_keep_blocks": 12}, "all"),
        (PRUNED | {"backbone_keep_blocks": 4, "backbone_plan": "gone.json"}, 4),
    ],
)
def test_the_depth_that_a_config_asks_for(arguments: dict[str, Any], kept: Any) -> None:
    asked = _asked(arguments)
    assert asked is not None
    assert asked.kept == kept


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"backbone": nn.Identity()},
        PRUNED | {"backbone_plan": "gone.json"},
        PRUNED | {"backbone_calibration": {"tiles": "t"}},
    ],
)
def test_what_only_building_would_tell_is_not_guessed(arguments: dict[str, Any]) -> None:
    assert _asked(arguments) is None


def test_a_plan_asks_for_its_depth_if_it_can_be_read(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan()
    plan.save(tmp_path / "plan.json")
    asked = _asked(PRUNED | {"backbone_plan": str(tmp_path / "plan.json")})
    assert asked is not None
    assert asked.kept == plan.spec
    (tmp_path / "plan.json").write_text("{}")
    assert _asked(PRUNED | {"backbone_plan": str(tmp_path / "plan.json")}) is None


def test_blocks_of_another_backbone_are_not_counted() -> None:
    asked = _asked({"backbone": "simpler_y", "backbone_keep_blocks": 12})
    assert str(asked) == "simpler_y, 12 blocks"


def test_the_backbone_of_a_task(tiny_prithvi: nn.Module) -> None:
    pruned = prune_backbone(load_backbone(tiny_prithvi), [0, 4, 7])
    running = running_backbone(_Task(pruned, PRUNED), pruned)
    assert str(running) == "simpler_x, 3 of 12 blocks (0, 4, 7)"
    assert running.lines == "backbone: simpler_x, backbone_keep_blocks: [0, 4, 7]"
    running = running_backbone(_Task(tiny_prithvi, FULL), None)
    assert str(running) == "x, all 12 blocks"
    assert running.lines == "backbone: x"
    # One that no family knows has blocks that nobody counts.
    assert str(running_backbone(_Task(nn.Identity(), FULL), None)) == "x, all its blocks"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a command is run that names a checkpoint."""
    monkeypatch.chdir(tmp_path)
    Path("some.ckpt").touch()
    return tmp_path


def _command(arguments: dict[str, Any], *options: str) -> Any:
    """What a trainer of LightningCLI holds before anything is loaded."""
    config = {"model": {"class_path": "Task", "init_args": {"model_args": arguments}}}
    Path("task.yaml").write_text(yaml.safe_dump(config))
    parser = LightningArgumentParser()
    parser.add_argument("-c", "--config", action="config")
    parser.add_argument("--ckpt_path", default=None)
    parser.add_argument("--model.class_path")
    parser.add_argument("--model.init_args.model_args", type=dict)
    parsed = parser.parse_args(["-c", "task.yaml", *options])
    parsed["model.init_args.model_args"] = {"backbone": "what the checkpoint says"}
    saved = SaveConfigCallback(parser, parsed)
    return SimpleNamespace(callbacks=[saved], ckpt_path=None)


@pytest.mark.usefixtures("folder")
def test_another_depth_than_the_checkpoint_holds_is_refused(tiny_prithvi: nn.Module) -> None:
    pruned = prune_backbone(load_backbone(tiny_prithvi), [0, 1, 2, 3])
    task = _Task(pruned, PRUNED)
    five = PRUNED | {"backbone_keep_blocks": 5}
    with pytest.raises(ValueError, match="checkpoint") as caught:
        check_checkpoint(_command(five, "--ckpt_path=some.ckpt"), task, pruned, "fit")
    assert str(caught.value) == (
        "task.yaml asks for simpler_x, 5 of 12 blocks, but the checkpoint some.ckpt holds "
        "simpler_x, 4 of 12 blocks, and Lightning runs what the checkpoint holds: use the config "
        "that it was made with, or one that names the same depth (backbone: simpler_x, "
        "backbone_keep_blocks: 4); or leave out ckpt_path to train from the backbone's weights"
    )
    with pytest.raises(ValueError, match="or give a checkpoint of the depth that is asked for"):
        check_checkpoint(_command(FULL, "--ckpt_path=some.ckpt"), task, pruned, "test")
    four = PRUNED | {"backbone_keep_blocks": 4}
    check_checkpoint(_command(four, "--ckpt_path=some.ckpt"), task, pruned, "fit")
    with pytest.raises(ValueError, match=r"^task.yaml with the command line asks for simpler_x, 5"):
        check_checkpoint(_command(four, "--ckpt_path=some.ckpt", f"{KEEP}=5"), task, pruned, "fit")
    check_checkpoint(_command(five, "--ckpt_path=some.ckpt", f"{KEEP}=4"), task, pruned, "fit")


@pytest.mark.usefixtures("folder")
def test_nothing_is_refused_where_the_config_decides_or_nobody_knows(
    tiny_prithvi: nn.Module,
) -> None:
    task = _Task(tiny_prithvi, FULL)
    four = PRUNED | {"backbone_keep_blocks": 4}
    # The config's settings stand where no checkpoint is named, or none that is a file yet.
    for options in ([], ["--ckpt_path=last"]):
        trainer = _command(four, *options)
        assert checkpoint_of(trainer) is None
        check_checkpoint(trainer, task, None, "fit")
    trainer = _command(four, "--ckpt_path=some.ckpt")
    assert checkpoint_of(trainer) == "some.ckpt"
    # As where the config was given as values and no arguments were parsed.
    del trainer.callbacks[0].parser.args
    check_checkpoint(trainer, task, None, "fit")
    trainer.callbacks = []
    check_checkpoint(trainer, task, None, "fit")
