"""`terratorch` with `--ckpt_path`: Lightning takes the model's settings from the checkpoint."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import BRIEF, lay_out

pytestmark = pytest.mark.slow

Run = Callable[..., Any]
FULL, PRUNED = "prithvi_eo_v2_tiny_tl", "simpler_prithvi_eo_v2_tiny_tl"
KEEP = "--model.init_args.model_args.backbone_keep_blocks"
CALLBACK = "trainer:\n  callbacks: [{class_path: terratorch_simpler.SimplerCallback}]"
PREDICTED = ("--predict_output_dir=predicted", "--data.init_args.predict_data_root=data/val/images")
STAGES: dict[str, tuple[str, ...]] = {
    "fit": ("--trainer.max_epochs=2",),
    "validate": (),
    "test": (),
    "predict": PREDICTED,
}
every_stage = pytest.mark.parametrize("stage", STAGES)


def _run(stage: str, config: str, *arguments: str) -> Any:
    from terratorch.cli_tools import build_lightning_cli

    return build_lightning_cli([stage, "-c", config, *BRIEF, *arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full config, those of four and five blocks, and checkpoints of the first two."""
    folder = lay_out(tmp_path_factory.mktemp("user"))
    text = (folder / "task.yaml").read_text().replace("trainer:", CALLBACK)
    (folder / "full.yaml").write_text(text)
    for depth, name in ((4, "four"), (5, "five")):
        lines = f"backbone: {PRUNED}\n      backbone_keep_blocks: {depth}"
        (folder / f"{name}.yaml").write_text(text.replace(f"backbone: {FULL}", lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["terratorch"])
        for name in ("full", "four"):
            kept = ("--trainer.enable_checkpointing=true", f"--trainer.default_root_dir={name}")
            _run("fit", f"{name}.yaml", *kept)
            (checkpoint,) = Path(name).rglob("epoch=0.ckpt")
            shutil.move(checkpoint, f"{name}.ckpt")
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`terratorch` in that folder, with a checkpoint; it writes to `tmp_path`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["terratorch"])

    def run(stage: str, config: str, checkpoint: str, *arguments: str) -> Any:
        root = f"--trainer.default_root_dir={tmp_path}"
        more = (*STAGES[stage], root, *arguments)
        return _run(stage, config, "--ckpt_path", checkpoint, *more)

    return run


@every_stage
def test_a_full_checkpoint_does_not_stand_in_for_a_pruned_config(
    stage: str, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"five.yaml asks for") as caught:
        run(stage, "five.yaml", "full.ckpt")
    said = str(caught.value)
    assert f"{PRUNED}, 5 of 12 blocks, but the checkpoint full.ckpt holds {FULL}, all 12" in said
    # Nothing was run, nor a config saved that says it was.
    assert not list(tmp_path.iterdir())


def test_five_blocks_against_four(run: Run) -> None:
    with pytest.raises(
        ValueError, match=r"5 of 12 blocks, but the checkpoint four.ckpt holds .* 4"
    ):
        run("fit", "five.yaml", "four.ckpt")
    with pytest.raises(ValueError, match=r"full.yaml asks for .*, all 12 blocks, but .* 4 of 12"):
        run("test", "full.yaml", "four.ckpt")


def test_the_command_line_asks_as_well(run: Run) -> None:
    with pytest.raises(ValueError, match=r"four.yaml with the command line asks for .* 5 of 12"):
        run("test", "four.yaml", "four.ckpt", f"{KEEP}=5")
    run("test", "five.yaml", "four.ckpt", f"{KEEP}=4")


@every_stage
def test_a_checkpoint_says_which_backbone_is_run(
    stage: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(stage, "four.yaml", "four.ckpt")
    assert len(done.model.model.encoder.blocks) == 4
    lines = [line for line in capsys.readouterr().out.splitlines() if "SIMPLER" in line]
    assert lines == [f"SIMPLER: {PRUNED}, 4 of 12 blocks, from the checkpoint four.ckpt."]


def test_a_full_config_and_its_checkpoint(
    run: Run, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run("test", "full.yaml", "full.ckpt")
    said = f"{FULL}, all 12 blocks"
    assert f"SIMPLER: {said}, from the checkpoint full.ckpt." in capsys.readouterr().out
    with caplog.at_level(logging.WARNING):
        run("fit", "full.yaml", "full.ckpt")
    assert f"the checkpoint full.ckpt holds {said}" in caplog.text
    assert "Put simpler_" not in caplog.text


def test_without_a_saved_config_only_the_checkpoint_is_told_of(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """`fast_dev_run` leaves out the callback that knows what was asked for."""
    with caplog.at_level(logging.WARNING):
        run("fit", "five.yaml", "full.ckpt", "--trainer.fast_dev_run=true")
    assert f"the checkpoint full.ckpt holds {FULL}, all 12 blocks" in caplog.text
    assert "Put simpler_" not in caplog.text


def test_last_is_loaded_into_what_the_config_asks_for(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = tmp_path / "last.ckpt"
    shutil.copy("four.ckpt", last)
    done = run(
        "fit", "four.yaml", "last", "--trainer.enable_checkpointing=true",
        "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint",
        f"--trainer.callbacks.dirpath={tmp_path}", "--trainer.callbacks.save_last=true",
    )  # fmt: skip
    assert done.trainer.current_epoch == 2
    said = f"SIMPLER: {PRUNED}, 4 of 12 blocks, from the checkpoint {last}."
    assert said in capsys.readouterr().out
