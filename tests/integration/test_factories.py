"""Configs of other model factories: selected for, trained and tested."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from terratorch_simpler.backbones.pruned import find_pruned
from terratorch_simpler.cli import main
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.task.config import TaskConfig
from tests.configs import write_detection, write_legacy
from tests.integration.conftest import BRIEF, Terratorch
from tests.rasters import BANDS

pytestmark = pytest.mark.slow

SELECT = ("select", "--config", "task.yaml", "--output", "chosen", "--quiet")
FEW = ("--samples", "8", "--tokens", "4", "--accelerator", "cpu")


def _trains_and_tests(terratorch: Terratorch) -> None:
    """Run the pruned config with the depth of its plan, and its checkpoint without plan."""
    plan = PruningPlan.load("chosen/plan.json")
    config = Path("chosen/task_simpler.yaml")
    fitted = terratorch("fit", "-c", config, *BRIEF)
    pruned = find_pruned(fitted.model)
    assert pruned is not None
    assert len(pruned.kept_blocks) == plan.depth
    assert fitted.trainer.global_step >= 1
    # TerraTorch's own callback watches a loss that detection does not log.
    fitted.trainer.save_checkpoint("task.ckpt")
    Path("chosen/plan.json").unlink()
    terratorch("test", "-c", config, *BRIEF, "--ckpt_path", "task.ckpt")


def test_an_older_config_of_prithvi(
    user: Path, terratorch: Terratorch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(user)
    write_legacy(user, Path("task.yaml").read_text())
    main([*SELECT, *FEW, "--convert"])
    plan = PruningPlan.load("chosen/plan.json")
    assert (plan.backbone.name, plan.backbone.pretrained) == ("prithvi_eo_v2_tiny_tl", True)
    full = TaskConfig.read("chosen/task_full.yaml")
    assert full.values == TaskConfig.read("task.yaml").values
    assert "      backbone_in_chans: 6  # as many\n" in full.text
    arguments = yaml.safe_load(Path("chosen/task_simpler.yaml").read_text())["model"]["init_args"][
        "model_args"
    ]
    assert arguments["backbone_keep_blocks"] == plan.spec
    assert arguments["backbone_bands"] == BANDS

    Path("other").mkdir()
    shutil.copy("chosen/task_full.yaml", "other")
    with pytest.raises(SystemExit):
        main([*SELECT[:4], "other", "--quiet", *FEW, "--convert"])
    assert [path.name for path in Path("other").iterdir()] == ["task_full.yaml"]
    _trains_and_tests(terratorch)


def test_a_config_that_detects_objects(
    terratorch: Terratorch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = yaml.safe_load(write_detection(tmp_path).read_text())
    main([*SELECT, *FEW])
    plan = PruningPlan.load("chosen/plan.json")
    assert (plan.backbone.name, plan.tiles.used) == ("prithvi_eo_tiny", 8)
    assert plan.savings is not None
    after = yaml.safe_load(Path("chosen/task_simpler.yaml").read_text())
    arguments = after["model"]["init_args"]["model_args"]
    assert arguments.pop("backbone_keep_blocks") == plan.spec
    assert arguments.pop("backbone_plan") == "chosen/plan.json"
    arguments["backbone"] = arguments["backbone"].removeprefix("simpler_")
    del after["trainer"]["callbacks"]
    assert after == before
    _trains_and_tests(terratorch)
