"""Running `terratorch` as its command does, in this process, from the repository's root."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
SAMPLES = ROOT / "terratorch_simpler" / "samples"
Terratorch = Callable[..., Any]

BRIEF = (
    "--trainer.accelerator=cpu",
    "--trainer.precision=32-true",
    "--trainer.max_epochs=1",
    # Shares, since jsonargparse reads a 1 as 1.0: everything.
    "--trainer.limit_train_batches=0.2",
    "--trainer.limit_val_batches=0.2",
    "--trainer.limit_test_batches=0.2",
    "--trainer.limit_predict_batches=0.2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)
"""One training step, and a batch or so of everything else."""


@pytest.fixture
def terratorch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terratorch:
    """What the command `terratorch` runs, given its arguments; it writes to `tmp_path / "runs"`."""
    from terratorch.cli_tools import build_lightning_cli

    monkeypatch.chdir(ROOT)
    # Lightning warns where a program's own arguments stand beside those it is given.
    monkeypatch.setattr(sys, "argv", ["terratorch"])

    def run(*arguments: str | Path) -> Any:
        root = f"--trainer.default_root_dir={tmp_path / 'runs'}"
        return build_lightning_cli([*(str(argument) for argument in arguments), root])

    return run


def lay_out(folder: Path) -> Path:
    """Lay out a researcher's folder: a working config of their own and their tiles."""
    for split in ("train", "val"):
        shutil.copytree(SAMPLES / split, folder / "data" / split)
    shutil.copy(SAMPLES / "prithvi_eo_v2_tiny_tl.pt", folder / "weights.pt")
    text = (CONFIGS / "sample" / "segmentation.yaml").read_text()
    text = text.replace("terratorch_simpler/samples/prithvi_eo_v2_tiny_tl.pt", "weights.pt")
    (folder / "task.yaml").write_text(text.replace("terratorch_simpler/samples", "data"))
    return folder


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A researcher's folder."""
    monkeypatch.chdir(lay_out(tmp_path))
    return tmp_path
