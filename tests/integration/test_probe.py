"""`terratorch-simpler probe` and `select --probe` on the configs of the embedded sample."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import yaml

import terratorch_simpler as simpler
from terratorch_simpler.cli import main
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.wording import disagreement
from tests.integration.conftest import CONFIGS, ROOT, SAMPLES

pytestmark = pytest.mark.slow

CPU = ("--accelerator", "cpu")
NAME = "prithvi_eo_v2_tiny_tl"
OPTIONS: dict[str, Any] = {
    "num_classes": 7,
    # What the files hold; the datamodule makes it -1.
    "ignore_index": 255,
    "accelerator": "cpu",
    "progress": False,
    "pretrained": True,
    "ckpt_path": str(SAMPLES / f"{NAME}.pt"),
}
METRICS = {"segmentation": "mIoU", "regression": "R2", "classification": "accuracy"}
TILES = {"segmentation": (48, 24), "regression": (48, 24), "classification": (46, 24)}


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def scores(path: Path) -> dict[int, float]:
    rows = list(csv.DictReader(path.open()))
    metric = list(rows[0])[1]
    return {int(row["layer"]): float(row[metric]) for row in rows}


@pytest.mark.parametrize("task", METRICS)
def test_the_sample_configs(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["probe", "--config", f"configs/sample/{task}.yaml", "--output", str(tmp_path), *CPU])
    found = json.loads((tmp_path / "probe.json").read_text())
    assert (found["task"], found["metric"], found["depth"]) == (task, METRICS[task], 12)
    assert (found["train_tiles"], found["val_tiles"]) == TILES[task]
    assert found["scores"] == {str(k): v for k, v in scores(tmp_path / "probe.csv").items()}
    assert (tmp_path / "probe.png").read_bytes().startswith(b"\x89PNG")
    said = " ".join(capsys.readouterr().out.split())
    assert f"is reached at depth {found['reached']}; best at {found['best']}; within one" in said
    assert f"standard error of the best at {found['within_error']} (" in said
    assert found["errors"][str(found["best"])] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "probe.csv",
        "probe.json",
        "probe.png",
    ]


def batches(split: str) -> list[dict[str, torch.Tensor]]:
    """The sample's tiles and land use, read and normalised here."""
    config = yaml.safe_load((CONFIGS / "sample" / "segmentation.yaml").read_text())
    data = config["data"]["init_args"]
    found = []
    for tile in sorted((SAMPLES / split / "images").glob("*.tif")):
        with (
            rasterio.open(tile) as image,
            rasterio.open(SAMPLES / split / "landuse" / tile.name) as mask,
        ):
            means, stds = (np.array(data[key])[:, None, None] for key in ("means", "stds"))
            pixels = torch.from_numpy(((image.read() - means) / stds).astype("float32"))
            found.append({"image": pixels[None], "mask": torch.from_numpy(mask.read(1))[None]})
    return found


def test_the_tiles_are_what_the_task_sees(tmp_path: Path) -> None:
    """The scores are those of tiles that are normalised, and not flipped, by hand."""
    main(["probe", "--config", "configs/sample/segmentation.yaml", "--output", str(tmp_path), *CPU])
    tiles = batches("train")
    # The order in which the datamodule's are taken: it says which are left out together.
    order = np.random.default_rng(0).permutation(len(tiles))
    by_hand = simpler.probe(NAME, [tiles[i] for i in order], batches("val"), **OPTIONS)
    assert scores(tmp_path / "probe.csv") == pytest.approx(by_hand.scores, abs=1e-5)


def test_labels_are_what_is_learnt() -> None:
    """With the labels of other tiles the land use cannot be told any more."""
    train, val = batches("train"), batches("val")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    shuffled = [
        batch | {"mask": train[other]["mask"]}
        for batch, other in zip(train, order.tolist(), strict=True)
    ]
    learnt, control = (simpler.probe(NAME, tiles, val, **OPTIONS) for tiles in (train, shuffled))
    for layer in range(1, 13):
        assert learnt.scores[layer] > control.scores[layer] + 0.03


@pytest.mark.long
def test_a_plan_is_compared_and_kept_as_it_was(
    user: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(user)
    main(["select", "--config", "task.yaml", "--output", "chosen", "--quiet", *CPU])
    before = Path("chosen/plan.json").read_bytes()
    capsys.readouterr()
    plan = ("--plan", "chosen/plan.json")
    main(["probe", "--config", "task.yaml", *plan, "--output", "probed", *CPU])
    assert Path("chosen/plan.json").read_bytes() == before
    chosen, probed = (PruningPlan.load(f"{name}/plan.json") for name in ("chosen", "probed"))
    assert chosen.probe is None
    assert probed.probe is not None
    assert probed.probe.chosen == chosen.depth
    warned = chosen.warnings or []
    assert probed.model_copy(update={"probe": None, "warnings": warned}) == chosen
    assert probed.warnings == warned + disagreement(probed)
    said = " ".join(capsys.readouterr().out.split())
    assert f"Chosen without labels: {chosen.depth} (" in said
    assert "probed/plan.json" in said

    # The same from select, which puts it into its plan and report.
    main(["select", "--config", "task.yaml", "--probe", "--output", "both", *CPU])
    both = PruningPlan.load("both/plan.json")
    assert both.savings is not None
    assert probed.savings is not None
    assert both.savings.pruned.flops == probed.savings.pruned.flops
    # Each selection was made by its own command, and measured its own times.
    assert both.model_copy(update={"savings": probed.savings, "made": probed.made}) == probed
    assert "What labels say" in Path("both/report.html").read_text()
    assert "Chosen without labels" in capsys.readouterr().out
