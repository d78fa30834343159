"""What the studies do to a backbone, on the embedded sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from studies.measure import run
from studies.measure.compose import Folders, compose
from studies.measure.norms import refitted
from studies.measure.run import Cell, configure
from studies.measure.samples import QUIET, data_of, read, samples_of
from terratorch_simpler.selection.select import run_selection

pytestmark = pytest.mark.long

FOLDERS = Folders(Path("sources"), Path("data"), Path("weights"))


def test_a_refitted_norm_gives_the_moments_of_the_full_depth() -> None:
    config = compose("sample_landuse", "mae12", FOLDERS)
    task = read(config)
    samples = samples_of(task)
    norm = task.backbone.module.norm
    assert isinstance(norm, torch.nn.LayerNorm)
    with torch.no_grad():
        full = norm(samples[:, -1]).flatten(0, 1)
        found = refitted(config, 4)
        norm.weight.copy_(torch.tensor(found["weight"]))
        norm.bias.copy_(torch.tensor(found["bias"]))
        cut = norm(samples[:, 4]).flatten(0, 1)
    torch.testing.assert_close(cut.mean(0), full.mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(cut.std(0), full.std(0), rtol=1e-3, atol=1e-3)


def test_baselines_keep_the_blocks_that_a_plan_names() -> None:
    task = read(compose("sample_landuse", "mae12", FOLDERS))
    settings = replace(QUIET, criterion="first", depth=4)
    others = run_selection(task.backbone, data_of(task), settings).plan.others
    for method in ("block_influence", "angular_distance"):
        config = configure(Cell("sample_landuse", "mae12", method, 4, 0), FOLDERS)
        blocks = config["model"]["init_args"]["model_args"]["backbone_keep_blocks"]
        assert blocks == others[method]
    assert others["block_influence"] != [0, 1, 2, 3]


def test_a_cell_gives_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its head, the order of its tiles and their augmentation come from its seed."""

    def a_few_steps(cell: Cell, folders: Folders) -> dict[str, Any]:
        config = configure(cell, folders)
        config["trainer"] |= {"max_epochs": 1, "limit_train_batches": 4, "limit_test_batches": 1}
        return config

    monkeypatch.setattr(run, "configure", a_few_steps)
    cell = Cell("sample_landuse", "mae12", "first", 1, 3)
    (_, first), (_, second), (_, other) = (
        run.train(one, FOLDERS) for one in (cell, cell, replace(cell, seed=4))
    )
    same = dict(second.named_parameters())
    for name, parameter in first.named_parameters():
        torch.testing.assert_close(parameter, same[name], rtol=0, atol=0)
    assert not all(
        torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)
    )
