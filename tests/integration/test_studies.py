"""What the studies do to a backbone, on the embedded sample."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from studies.compose import Folders, compose
from studies.norms import refitted
from studies.run import Cell, configure
from studies.samples import read, samples_of

FOLDERS = Folders(Path("sources"), Path("data"), Path("weights"))


def test_a_refitted_norm_gives_the_moments_of_the_full_depth() -> None:
    config = compose("sample_landuse", "mae12", FOLDERS)
    samples = samples_of(config)
    norm = read(config).backbone.module.norm
    assert isinstance(norm, torch.nn.LayerNorm)
    with torch.no_grad():
        full = norm(samples[:, -1]).flatten(0, 1)
        found = refitted(config, 4)
        norm.weight.copy_(torch.tensor(found["weight"]))
        norm.bias.copy_(torch.tensor(found["bias"]))
        cut = norm(samples[:, 4]).flatten(0, 1)
    torch.testing.assert_close(cut.mean(0), full.mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(cut.std(0), full.std(0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["block_influence", "angular_distance"])
def test_a_baseline_keeps_blocks_that_may_lie_anywhere(method: str) -> None:
    config = configure(Cell("sample_landuse", "mae12", method, 4, 0), FOLDERS)
    blocks = config["model"]["init_args"]["model_args"]["backbone_keep_blocks"]
    assert len(set(blocks)) == 4
    assert blocks == sorted(blocks)
