"""Several processes, as users start them: the command and `terratorch fit`, on two CPU devices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from terratorch_simpler.cli import main
from terratorch_simpler.results.plan import PruningPlan
from tests.integration.conftest import CONFIGS, ROOT, SAMPLES

pytestmark = pytest.mark.slow

BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
# 69 tiles: four groups of 16, and a rest that the other process settles.
TILES = {"tiles": str(SAMPLES / "train" / "images"), "size": 64, "samples": 69}


def command(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment with one thread a process."""
    program = str(Path(sys.executable).parent / name)
    return subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def arguments(output: Path, devices: int) -> list[str]:
    """What selects from the sample's tiles."""
    given = ["--backbone", "prithvi_eo_v2_tiny_tl", "--bands", *BANDS]
    given += ["--backbone_args.ckpt_path", str(SAMPLES / "prithvi_eo_v2_tiny_tl.pt")]
    for key, value in TILES.items():
        given += [f"--{key}", str(value)]
    return [*given, "--devices", str(devices), "--output", str(output), "--accelerator", "cpu"]


def test_two_devices_make_the_plan_of_one(tmp_path: Path) -> None:
    main(["select", *arguments(tmp_path / "1", 1), "--quiet"])
    done = command("terratorch-simpler", "select", *arguments(tmp_path / "2", 2))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Written: ") == 1
    one, two = (PruningPlan.load(tmp_path / name / "plan.json") for name in ("1", "2"))
    assert one.tiles.used == 69
    # Each selection was made at its own time, and measured its own.
    assert two.savings is not None
    assert two.model_copy(update={"savings": one.savings, "made": one.made}) == one


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Fine-tuning on two processes with a calibration."""
    task = yaml.safe_load((CONFIGS / "sample" / "segmentation.yaml").read_text())
    # The weights for coordinates are not used here.
    strategy = "ddp_find_unused_parameters_true"
    task["trainer"] |= {"devices": 2, "strategy": strategy, "max_epochs": 1}
    task["trainer"]["default_root_dir"] = str(tmp_path / "runs")
    task["trainer"]["callbacks"] = [{"class_path": "terratorch_simpler.SimplerCallback"}]
    task["model"]["init_args"]["model_args"] |= {
        "backbone": "simpler_prithvi_eo_v2_tiny_tl",
        "backbone_plan": str(tmp_path / "plan.json"),
        "backbone_calibration": TILES | {"progress": False},
    }
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump(task))
    return path


@pytest.mark.long
def test_fit_on_two_devices_selects_once_and_trains(config: Path, tmp_path: Path) -> None:
    done = command("terratorch", "fit", "-c", str(config))
    assert done.returncode == 0, done.stderr
    plan = PruningPlan.load(tmp_path / "plan.json")
    assert plan.tiles.used == 69
    # 69 tiles are too few to say how sure the depth is: whoever selects warns of it.
    assert done.stderr.count("SelectionWarning") == 1
    assert done.stdout.count("SIMPLER: Keep the first") == 1
