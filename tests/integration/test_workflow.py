"""The main job: a user's config, one command, and `terratorch` with what it wrote."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from terratorch_simpler.callbacks import SimplerCallback
from terratorch_simpler.cli import main
from terratorch_simpler.results.plan import PruningPlan
from tests.integration.conftest import BRIEF, Terratorch

pytestmark = pytest.mark.slow


def _only_checkpoint(folder: Path) -> Path:
    found = [path for path in folder.rglob("*.ckpt") if "state_dict" not in path.name]
    assert len(found) == 1, found
    return found[0]


def _changed(before: Path, after: Path) -> list[str]:
    lines = difflib.ndiff(before.read_text().splitlines(), after.read_text().splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_a_user_selects_trains_and_loads_without_plan_or_tiles(
    user: Path, terratorch: Terratorch, monkeypatch: pytest.MonkeyPatch
) -> None:
    from terratorch.tasks import SemanticSegmentationTask

    monkeypatch.chdir(user)
    main(["select", "--config", "task.yaml", "--output", "chosen", "--quiet"])
    plan = PruningPlan.load("chosen/plan.json")
    written = {path.name: path.read_bytes() for path in Path("chosen").iterdir()}
    main(["report", "chosen/plan.json", "--quiet"])
    assert plan.savings is not None
    assert {path.name: path.read_bytes() for path in Path("chosen").iterdir()} == written
    config = Path("chosen/task_simpler.yaml")
    assert _changed(user / "task.yaml", config) == [
        "+   callbacks:",
        "+     - class_path: terratorch_simpler.SimplerCallback",
        "-       backbone: prithvi_eo_v2_tiny_tl",
        "+       backbone: simpler_prithvi_eo_v2_tiny_tl",
        f"+       backbone_keep_blocks: {plan.depth}",
        "+       backbone_plan: chosen/plan.json",
    ]
    kept = ("--trainer.enable_checkpointing=true",)
    fitted = terratorch("fit", "-c", config, *BRIEF, *kept)
    assert len(fitted.model.model.encoder.blocks) == plan.depth
    checkpoint = _only_checkpoint(user / "runs")

    shutil.move("chosen/plan.json", "elsewhere.json")
    shutil.rmtree("data/train")
    shutil.copytree("data/val", "data/train")
    tested = terratorch("test", "-c", config, *BRIEF, "--ckpt_path", checkpoint)
    assert len(tested.model.model.encoder.blocks) == plan.depth
    terratorch(
        "predict", "-c", config, *BRIEF, "--ckpt_path", checkpoint,
        "--predict_output_dir", "predicted", "--data.init_args.predict_data_root=data/val/images",
    )  # fmt: skip
    assert list(Path("predicted").glob("*.tif"))
    loaded: Any = SemanticSegmentationTask.load_from_checkpoint(checkpoint)
    assert len(loaded.model.encoder.blocks) == plan.depth
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())


def test_a_checkpoint_holds_plain_keep_blocks_and_the_plan(
    user: Path, terratorch: Terratorch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(user)
    text = Path("task.yaml").read_text()
    calibration = "{tiles: data/train/images, size: 128, samples: 16}"
    lines = (
        "backbone: simpler_prithvi_eo_v2_tiny_tl\n"
        f"      backbone_calibration: {calibration}\n"
        "      backbone_plan: made.json"
    )
    text = text.replace("backbone: prithvi_eo_v2_tiny_tl", lines)
    callback = "trainer:\n  callbacks: [{class_path: terratorch_simpler.SimplerCallback}]"
    Path("task.yaml").write_text(text.replace("trainer:", callback))
    kept = ("--trainer.enable_checkpointing=true",)
    terratorch("fit", "-c", "task.yaml", *BRIEF, *kept)
    plan = PruningPlan.load("made.json")
    checkpoint = torch.load(_only_checkpoint(user / "runs"), weights_only=True)
    arguments = checkpoint["hyper_parameters"]["model_args"]
    assert arguments["backbone_keep_blocks"] == plan.depth
    assert not {"backbone_plan", "backbone_calibration"} & arguments.keys()
    stored = checkpoint["callbacks"][SimplerCallback().state_key]["plan"]
    assert PruningPlan.model_validate(stored) == plan

    # The next start reuses the plan: without the tiles it could not select again.
    written = Path("made.json").stat().st_mtime_ns
    shutil.rmtree("data/train")
    shutil.copytree("data/val", "data/train")
    again = terratorch("fit", "-c", "task.yaml", *BRIEF, "--trainer.enable_checkpointing=false")
    assert again.model.model.encoder.plan == plan
    assert Path("made.json").stat().st_mtime_ns == written


def test_the_run_shows_and_logs_the_plan(
    user: Path,
    terratorch: Terratorch,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(user)
    # Six groups of tiles, so that there is a confidence.
    tiles = ("--tiles", "data/train/images", "--size", "64", "--samples", "96")
    main(["select", "--config", "task.yaml", "--output", "chosen", *tiles, "--quiet"])
    logged = (
        "--trainer.logger=TensorBoardLogger",
        "--trainer.logger.save_dir=logs",
    )
    terratorch("fit", "-c", "chosen/task_simpler.yaml", *BRIEF, *logged)
    plan = PruningPlan.load("chosen/plan.json")
    assert f"Keep the first {plan.depth} of 12 blocks" in capsys.readouterr().out
    (events,) = (user / "logs").rglob("events.out*")
    log = EventAccumulator(str(events))
    log.Reload()
    assert log.Scalars("simpler/depth")[0].value == plan.depth
    assert log.Scalars("simpler/confidence")[0].value == pytest.approx(plan.confidence)
    assert {"simpler/similarity", "simpler/scores"} <= set(log.Tags()["images"])
