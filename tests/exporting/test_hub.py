"""Exported models on a hub: against a stand-in of its HTTP interface on the loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, constants
from torch import Tensor

from terratorch_simpler import HubModel
from terratorch_simpler.exporting.checkpoint import read_checkpoint
from terratorch_simpler.exporting.formats import safetensors
from terratorch_simpler.exporting.source import read_source
from tests.hub import LARGE, Hub, serve


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[str, type[Hub]]]:
    """An empty hub, which this process takes for the real one."""
    with serve() as (address, answers):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        for name, value in (("HF_HUB_OFFLINE", False), ("HF_HUB_DISABLE_XET", True)):
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_token")
        yield address, answers


def test_a_model_comes_back_as_it_was_uploaded(
    hub: tuple[str, type[Hub]],
    saved: Path,
    tile: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, answers = hub
    source = read_source(read_checkpoint(saved), None, False, None)
    folder = tmp_path / "model"
    folder.mkdir()
    safetensors.write(source, folder)
    # What 'hf upload user/model FOLDER' calls.
    api = HfApi()
    api.create_repo("user/model")
    api.upload_folder(folder_path=folder, repo_id="user/model")
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert answers.files == {"user/model": written}
    # The weights went the way of large files.
    assert [*answers.large.values()] == [written["model.safetensors"]]
    back = HubModel.from_pretrained("user/model")
    with torch.inference_mode():
        expected = source.model(tile).output
        assert torch.equal(back(tile), expected)
    # A model of Python's goes there as well, with a card that it makes itself.
    back.push_to_hub("user/again")
    again = answers.files["user/again"]
    assert again["config.json"] == written["config.json"]
    assert LARGE in "".join(again)
    assert b"5 of 12 blocks" in again["README.md"]
    # The cache holds it where the hub is gone.
    answers.files.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with torch.inference_mode():
        assert torch.equal(HubModel.from_pretrained("user/model")(tile), expected)


def test_the_weights_can_be_read_by_whoever_can_read_the_card(saved: Path, tmp_path: Path) -> None:
    safetensors.write(read_source(read_checkpoint(saved), None, False, None), tmp_path)
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1
