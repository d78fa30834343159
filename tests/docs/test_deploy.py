"""The page on deployment, command by command and block by block, with a model of the sample."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from terratorch_simpler.cli import main
from terratorch_simpler.exporting import measure
from terratorch_simpler.exporting.measure import Measured, size_mb
from terratorch_simpler.task.sample import sample_config
from tests.docs.pages import ROOT, blocks
from tests.exporting.conftest import save_task

PAGE = "docs/deploy.md"
COMMANDS = [words for block in blocks("console") if block.page == PAGE for words in block.commands]
CODE = [block for block in blocks("python") if block.page == PAGE]
SAID = (
    *("5 blocks", "(1, 7, 128, 128)", "torch.Size([1, 7, 128, 128])", "segmentation ('farm'"),
    "12 torch.Size([1, 65, 192])",
)
"""What the blocks of Python print, each in the place of the others."""


def _proven(_source: Any, to: Any, path: Path, *_: Any) -> tuple[Measured, str]:
    """What a proof gives."""
    return Measured(to, size_mb(path), [1.0], None, 0.0), "none"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the config of a task, its checkpoint and a scene."""
    folder = tmp_path_factory.mktemp("deploy")
    config = yaml.safe_load(sample_config())
    (folder / "TASK.yaml").write_text(sample_config())
    arguments: dict[str, Any] = config["model"]["init_args"]
    model_args = arguments.pop("model_args") | {"backbone_pretrained": False}
    model_args |= {"backbone": f"simpler_{model_args['backbone']}", "backbone_keep_blocks": 5}
    given = {key: arguments[key] for key in ("ignore_index", "class_names")}
    save_task(folder / "best.ckpt", model_args, **given)
    arguments["model_args"] = model_args | {"backbone_pretrained": True}
    (folder / "TASK_simpler.yaml").write_text(yaml.safe_dump(config))
    scene = next((ROOT / "terratorch_simpler/samples/val/images").glob("*.tif"))
    shutil.copy(scene, folder / "scene.tif")
    return folder


@pytest.mark.long
def test_the_page_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Proofs and what they are compared with take a process each, and are tested elsewhere.
    monkeypatch.setattr(measure, "compare", lambda _source: [])
    monkeypatch.setattr(measure, "prove", _proven)
    monkeypatch.chdir(folder)
    assert {words[0] for words in COMMANDS} == {"export", "predict"}
    for words in COMMANDS:
        main(words)
    said = capsys.readouterr().out
    for name in (
        "shared",
        "model.onnx",
        "map.tif",
        "small.onnx",
        "small.pt2",
        "hub",
        "backbone",
        "served",
    ):
        assert Path(name).exists()
        assert name in said
    for block, expected in zip(CODE, SAID, strict=True):
        assert expected in _printed(block.text, capsys), str(block)


def _printed(code: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What code prints: in a process that has to do without this package, unless it asks for it."""
    if "terratorch_simpler" in code:
        exec(compile(code, PAGE, "exec"), {})
        return capsys.readouterr().out
    without = "import sys; sys.modules['terratorch_simpler'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", without + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
