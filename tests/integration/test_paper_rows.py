"""The rows of the paper kit run end to end on their tiny layouts, with random weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from studies.paper import rows, run, table
from studies.paper.run import Result
from studies.tables import read_csv
from terratorch_simpler.results.plan import PruningPlan
from tests.integration.conftest import BRIEF, Terratorch

pytestmark = pytest.mark.long

SMALL = {
    "prithvi": "prithvi_eo_v2_tiny_tl",
    "terramind": "terramind_v1_tiny",
    "vit_mae": "timm_vit_tiny_patch16_224",
}
"""What stands for a family here: all of 12 blocks."""
DISTINCT = [
    *("mados-prithvi_eo_v2_100_tl", "bigearthnet_v2-terramind_v1_small", "cifar100-vit_mae_base"),
    # Prithvi has an axis of time, TerraMind sees every date by itself.
    *("sen4map-prithvi_eo_v2_100_tl", "sen4map-terramind_v1_small"),
]
"""Every data set, and every way to read it; with the smallest models the others are the same."""
AS_IT_IS = "bigearthnet_v2-terramind_v1_base"
"""A row with the model itself. The others take minutes each on a CPU; Prithvi-EO-2 300M and the
base ViT-MAE train a step in test_configs.py and test_other_configs.py."""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all rows go: the layouts are made once."""
    return tmp_path_factory.mktemp("paper")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is the smallest of its family."""
    full = rows.models()
    for name, entry in full.items():
        family = next(family for family in SMALL if name.startswith(family))
        entry["model_args"]["backbone"] = SMALL[family]
        entry["depth"] = 12
    monkeypatch.setattr(rows, "models", lambda: full)


@pytest.fixture
def run_row(output: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[Result]]:
    """What the command does with a row: its lines of the table."""

    def run_row(name: str, folder: str = "small") -> list[Result]:
        run.main(["--smoke", "--row", name, "--output", str(output / folder)])
        file = output / folder / "smoke" / "table.csv"
        results: list[Result] = [line for line in read_csv(Result, file) if line.row == name]
        said = capsys.readouterr().out
        for line in results:
            assert f"{name} {line.variant}: {line.metric}" in said
        return results

    return run_row


def _check(results: list[Result], name: str, folder: Path) -> None:
    full, cut = results
    row = rows.row_of(name)
    assert (full.variant, cut.variant) == ("full", "simpler")
    assert full.blocks == row.depth > cut.blocks
    assert full.parameters > cut.parameters
    plan = PruningPlan.load(folder / name / "seed_0" / "selected" / "plan.json")
    assert plan.depth == cut.blocks
    for line in results:
        assert line.metric == row.metric.rpartition("/")[2]
        assert 0 <= line.accuracy <= 1
        assert (line.steps, line.batch_size, line.weights) == (1, 2, "random")
        assert line.train_seconds > 0 < line.inference_ms
    assert full.select_seconds == 0 < cut.select_seconds
    written = (folder / name / "seed_0" / "selected" / f"{name}_simpler.yaml").read_text()
    config = yaml.safe_load(written)["model"]["init_args"]["model_args"]
    assert config["backbone_keep_blocks"] == cut.blocks


@pytest.mark.parametrize("name", DISTINCT)
@pytest.mark.usefixtures("small")
def test_every_data_set_runs(name: str, run_row: Callable[..., Any], output: Path) -> None:
    _check(run_row(name), name, output / "small" / "smoke")


def test_a_row_runs_with_the_model_itself(run_row: Callable[..., Any], output: Path) -> None:
    _check(run_row(AS_IT_IS, "large"), AS_IT_IS, output / "large" / "smoke")


@pytest.mark.usefixtures("small")
def test_the_config_of_a_row_is_terratorchs_own(terratorch: Terratorch, output: Path) -> None:
    """`terratorch fit -c` takes it, validates with the metric, and sees what the task expects."""
    name = "bigearthnet_v2-terramind_v1_small"
    config = output / "small" / "smoke" / name / "seed_0" / f"{name}.yaml"
    fitted = terratorch("fit", "-c", config, *BRIEF, "--trainer.fast_dev_run=true")
    metrics = fitted.trainer.callback_metrics
    assert not math.isnan(metrics["val/Multilabel_Average_Precision"])
    assert torch.isfinite(metrics["train/loss"])
    batch = next(iter(fitted.datamodule.train_dataloader()))
    assert batch["image"].shape == (2, 12, 120, 120)


def test_the_table_of_random_weights_says_so(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.main(output / "small" / "smoke" / "table.csv")
    said = capsys.readouterr().out
    assert table.RANDOM in said
    official, random = said.split(table.RANDOM)
    assert "of 12" not in official
    assert random.count("| MADOS |") == 4
