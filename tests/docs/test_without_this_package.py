"""A checkpoint of a pruned model goes into plain TerraTorch as the page on trained models says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from tests.conftest import TINY
from tests.docs.pages import blocks

COMPARE = """
import sys
assert "terratorch_simpler" not in sys.modules
torch.set_num_threads(1)
with torch.no_grad():
    output = task.eval().model(torch.load("images.pt")).output
assert torch.equal(output, torch.load("output.pt"))
"""


@pytest.mark.slow
def test_it_predicts_the_same(tmp_path: Path, images: torch.Tensor) -> None:
    from terratorch.tasks import SemanticSegmentationTask

    necks = [
        {"name": "SelectIndices", "indices": [2, 5, 8, 11]},
        {"name": "ReshapeTokensToImage"},
        {"name": "LearnedInterpolateToPyramidal"},
    ]
    task = SemanticSegmentationTask(
        model_factory="EncoderDecoderFactory",
        model_args={
            "backbone": f"simpler_{TINY}",
            "backbone_keep_blocks": 5,
            "backbone_pretrained": False,
            "backbone_img_size": 32,
            "necks": necks,
            "decoder": "UNetDecoder",
            "decoder_channels": [16, 8, 8, 8],
            "num_classes": 3,
        },
        ignore_index=-1,
    ).eval()
    with torch.no_grad():
        torch.save(task.model(images).output, tmp_path / "output.pt")
    torch.save(images, tmp_path / "images.pt")
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "best.ckpt")
    (block,) = [block for block in blocks("python") if "backbone_depth" in block.text]
    code = block.text.replace(", 24\n", ", 12\n") + COMPARE
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
