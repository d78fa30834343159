"""What a checkpoint holds, and what is said of files that are none."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from terratorch_simpler.exporting.checkpoint import (
    NOTE,
    import_task,
    read_checkpoint,
    task_class,
)
from tests.exporting.conftest import SEGMENTATION, save_task


class _Runs:
    """Would run code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("it ran",)


def _changed(saved: Path, path: Path, **changes: Any) -> Path:
    content = torch.load(saved, weights_only=True)
    content |= changes
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return path


def test_it_says_what_it_holds(saved: Path) -> None:
    found = read_checkpoint(saved)
    assert found.model_args["backbone_keep_blocks"] == 5
    assert found.class_path == "terratorch.tasks.segmentation_tasks.SemanticSegmentationTask"
    assert "_class_path" not in found.arguments
    assert found.plan is None
    assert "terratorch_simpler.load(PATH)" in found.note["read_me"]


def test_arguments_of_a_task_made_in_python_are_plain(saved: Path, tmp_path: Path) -> None:
    from terratorch.datasets import HLSBands

    bands = (HLSBands.BLUE, HLSBands.RED)
    given = {"model_args": {**SEGMENTATION, "backbone_bands": bands}, "root": tmp_path}
    found = read_checkpoint(_changed(saved, tmp_path / "a.ckpt", hyper_parameters=given))
    assert found.model_args["backbone_bands"] == ["BLUE", "RED"]
    assert found.arguments["root"] == str(tmp_path)
    assert yaml.safe_load(yaml.safe_dump(found.hyper_parameters)) == found.hyper_parameters


def test_the_class_follows_from_the_arguments_where_nothing_says_it(tmp_path: Path) -> None:
    found = read_checkpoint(save_task(tmp_path / "a.ckpt", SEGMENTATION, callback=False))
    assert found.class_path is None
    assert task_class(found).__name__ == "SemanticSegmentationTask"


def test_a_class_that_cannot_be_told_is_asked_for(saved: Path, tmp_path: Path) -> None:
    parameters = {"model_args": SEGMENTATION, "anything": 1}
    path = _changed(saved, tmp_path / "a.ckpt", hyper_parameters=parameters, **{NOTE: None})
    with pytest.raises(ValueError, match="Name the class"):
        task_class(read_checkpoint(path))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no.package.Task", "which cannot be imported"),
        ("collections.OrderedDict", "which is no LightningModule"),
    ],
)
def test_a_class_is_a_task(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_task(path, "it")


def test_files_that_are_none_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none\.ckpt"):
        read_checkpoint(tmp_path / "none.ckpt")
    with pytest.raises(FileNotFoundError, match="which is a folder: name a file in it"):
        read_checkpoint(tmp_path)
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(saved.read_bytes()[:10_000])
    with pytest.raises(ValueError, match="is no file of weights, or is damaged"):
        read_checkpoint(cut)
    text = tmp_path / "text.ckpt"
    text.write_text("not one")
    with pytest.raises(ValueError, match="is no file of weights, or is damaged"):
        read_checkpoint(text)
    weights = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(2)}, weights)
    with pytest.raises(ValueError, match="holds no state_dict"):
        read_checkpoint(weights)
    bare = tmp_path / "bare.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(2)}}, bare)
    with pytest.raises(ValueError, match="does not say how its model is built"):
        read_checkpoint(bare)


def test_nothing_in_it_is_run(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(saved, weights_only=True) | {"more": _Runs()}
    path = tmp_path / "runs.ckpt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"refuses to load \(.*print\): they could run code"):
        read_checkpoint(path)
    assert "it ran" not in capsys.readouterr().out
    # It would have: without the refusal it does.
    pickle.loads(pickle.dumps(_Runs()))
    assert "it ran" in capsys.readouterr().out


def test_one_of_a_newer_version_is_refused(saved: Path, tmp_path: Path) -> None:
    path = _changed(saved, tmp_path / "new.ckpt", **{NOTE: {"version": 99}})
    with pytest.raises(ValueError, match="upgrade terratorch-simpler"):
        read_checkpoint(path)
