"""The share of the blocks in a task's model is counted, and never stops a selection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from terratorch_simpler.profiling.costs import count_flops
from terratorch_simpler.profiling.runs import Example, inference
from terratorch_simpler.task import share
from terratorch_simpler.task.build import Task, read_task
from terratorch_simpler.task.config import TaskConfig
from terratorch_simpler.task.sample import TASK, sample_config
from terratorch_simpler.task.share import measure_share, share_sentence

LORA = """\
      peft_config:
        method: LORA
        peft_config_kwargs: {target_modules: [attn.qkv], r: 4}
"""


def read(folder: Path, more: str = "") -> Task:
    """The task of the sample's config, without weights."""
    text = sample_config().replace("backbone_pretrained: true", "backbone_pretrained: false")
    place = "      decoder: UNetDecoder\n"
    assert place in text
    path = folder / TASK
    path.write_text(text.replace(place, more + place))
    return read_task(TaskConfig.read(path))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return read(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def example() -> Example:
    return torch.randn(1, 6, 64, 64), {}


def flops_of_config(task: Task, example: Example, keep: int) -> int:
    """FLOPs of the model that TerraTorch builds of the rewritten config."""
    from terratorch.models import EncoderDecoderFactory

    given: dict[str, Any] = {
        key: value for key, value in task.config.model_args.items() if "ckpt" not in key
    }
    given |= {"backbone": f"simpler_{given['backbone']}", "backbone_keep_blocks": keep}
    model = EncoderDecoderFactory().build_model(task="segmentation", **given)
    return count_flops(inference(model, example))


def test_flops_are_those_of_the_models_that_terratorch_builds(task: Task, example: Example) -> None:
    counted = measure_share(task, example)
    assert len(counted.blocks) == 12
    for keep in (12, 4):
        removed = sum(counted.blocks[keep:])
        assert counted.total - removed == flops_of_config(task, example, keep)
    assert share_sentence(task, example, [*range(4)]) == counted.sentence([*range(4)])


def test_adapters_are_left_out(task: Task, example: Example, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    with pytest.warns(UserWarning, match="PEFT"):
        adapted = read(tmp_path, LORA)
    assert measure_share(adapted, example) == measure_share(task, example)


def test_what_cannot_be_counted_is_left_out_with_the_reason(task: Task, example: Example) -> None:
    dates = replace(task, backbone=replace(task.backbone, by_frame=True))
    assert share_sentence(dates, example, [0]) == (
        "What the cut saves of the whole model is left out: TerraTorch's temporal wrapper runs the "
        "backbone once a date."
    )
    wrong: Example = (torch.randn(1, 3, 64, 64), {})
    assert "is left out: " in share_sentence(task, wrong, [0])


def test_of_what_detects_objects_backbone_and_necks_are_counted(
    task: Task, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share, "detects", lambda _model: True)
    assert "of the FLOPs of backbone and necks: at most" in share_sentence(task, example, [0])


def test_a_list_of_blocks_counts_those_blocks(task: Task, example: Example) -> None:
    assert "2 of 12 blocks make it" in share_sentence(task, example, [0, 11])
