"""TerraTorch's public example configs, rewritten for the pruned backbone, train a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch import Tensor

from terratorch_simpler.backbones.pruned import find_pruned
from terratorch_simpler.task.config import TaskConfig
from terratorch_simpler.task.rewrite import simpler_config
from tests.contract.conftest import batches, changed, copy_of
from tests.upstream.weights import draw_less

pytestmark = pytest.mark.long

KEPT = 2
FEW = {
    "framework_rpn_pre_nms_top_n_train": 64,
    "framework_rpn_post_nms_top_n_train": 64,
    "framework_box_batch_size_per_image": 16,
}
"""Few boxes of each image go through the heads of a detector, whose masks take longest."""
TABLE = Path(__file__).with_name("public_configs.yaml")
ROWS: list[dict[str, Any]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["rows"]
BUILT = [row for row in ROWS if "terratorch" not in row]
NOT_BUILT = [row for row in ROWS if "terratorch" in row]


def named(rows: list[dict[str, Any]]) -> list[Any]:
    """Rows as parameters."""
    return [pytest.param(row, id=Path(row["configs"][0]).stem) for row in rows]


def task_of(config: dict[str, Any]) -> Any:
    """The task of a config, as the command line makes it of ``model``."""
    import terratorch.tasks

    model = config["model"]
    return getattr(terratorch.tasks, model["class_path"].rpartition(".")[2])(**model["init_args"])


def config_of(row: dict[str, Any]) -> dict[str, Any]:
    """A config with the settings of a row, and random weights."""
    model_args = row["model_args"] | row.get("narrow", {})
    if row["task"] == "ObjectDetectionTask":
        model_args |= FEW
    if "factory" in row:
        model_args |= {"backbone_pretrained": False}
    init_args = {"model_factory": row.get("factory")} | row.get("init_args", {})
    init_args = {key: value for key, value in init_args.items() if value is not None}
    task = {"class_path": f"terratorch.tasks.{row['task']}"}
    return {"model": task | {"init_args": init_args | {"model_args": model_args}}}


def targets(row: dict[str, Any]) -> dict[str, Tensor]:
    """What images are to be trained for: one, or two where a decoder has a batch norm."""
    size = row["size"]
    if row["task"] == "SemanticSegmentationTask":
        return {"mask": torch.arange(2 * size**2).reshape(2, size, size) % 2}
    if row["task"] == "ClassificationTask":
        return {"label": torch.tensor([3, 5])}
    fields = row.get("init_args", {})
    mask = torch.zeros(1, 1, size, size, dtype=torch.uint8)
    mask[..., 10:60, 10:60] = 1
    return {
        fields.get("boxes_field", "boxes"): torch.tensor([[[10.0, 10.0, 60.0, 60.0]]]),
        fields.get("labels_field", "labels"): torch.tensor([[1]]),
        fields.get("masks_field", "masks"): mask,
    }


def detected(samples: list[dict[str, Any]]) -> dict[str, Any]:
    batch: dict[str, Any] = {key: [sample[key] for sample in samples] for key in samples[0]}
    return batch | {"image": torch.stack(batch["image"])}


def train(config: dict[str, Any], row: dict[str, Any], folder: Path) -> Any:
    """Train a config's task for one step on random images, and give the task."""
    torch.manual_seed(0)
    task = task_of(config)
    frames = [row["frames"]] if "frames" in row else []
    wanted = targets(row)
    count = len(next(iter(wanted.values())))
    image = torch.randn(count, row["bands"], *frames, row["size"], row["size"])
    data = batches(image=image, **wanted)
    if row["task"] == "ObjectDetectionTask":
        data.collate_fn = detected
    trainer = Trainer(
        accelerator="cpu",
        fast_dev_run=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    pruned = find_pruned(task)
    before = {} if pruned is None else copy_of(pruned)
    trainer.fit(task, data)
    assert trainer.global_step == 1
    assert pruned is None or changed(pruned, before)
    return task


@pytest.fixture(autouse=True)
def _drawing_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "uniform_", Tensor.uniform_)
    draw_less()


@pytest.mark.parametrize("row", named(BUILT))
def test_the_pruned_config_trains_a_step(row: dict[str, Any], tmp_path: Path) -> None:
    text = yaml.safe_dump(config_of(row), sort_keys=False)
    config = TaskConfig.parse(text, tmp_path / "task.yaml")
    rewritten = simpler_config(config, KEPT, str(tmp_path / "plan.json"))
    pruned = find_pruned(train(yaml.safe_load(rewritten), row, tmp_path))
    assert pruned is not None
    assert pruned.kept_blocks == [0, 1]


@pytest.mark.parametrize("row", named(NOT_BUILT))
def test_terratorch_itself_refuses_the_config(row: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Exception, match=row["terratorch"]):
        train(config_of(row), row, tmp_path)


def test_no_config_is_listed_twice() -> None:
    configs = [config for row in ROWS for config in row["configs"]]
    assert len(configs) == len(set(configs))
