from __future__ import annotations

import csv
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scripts import pretrain_pictures, score_pictures


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A tar of 8 pictures of two classes for each split: stripes that run down or across."""
    archive, generator = tmp_path / "pictures.tar", np.random.default_rng(0)
    with tarfile.open(archive, "w") as tar:
        for split in ("train", "valid", "test"):
            for number in range(8):
                stripes = generator.integers(0, 255, (64, 1, 3)).repeat(64, axis=1)
                name = "down" if number % 2 else "across"
                pixels = stripes.transpose(1, 0, 2) if name == "down" else stripes
                stream = io.BytesIO()
                Image.fromarray(pixels.astype(np.uint8)).save(stream, "jpeg")
                member = tarfile.TarInfo(f"{split}/{name}/{number}.jpg")
                member.size = stream.tell()
                stream.seek(0)
                tar.addfile(member, stream)
    return archive


def run(module: object, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *arguments, "--device", "cpu", "--threads", "1"])
    module.main()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_an_encoder_is_trained_resumed_and_scored(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    options = (str(pictures), "--output", str(output), "--batch", "4", "--held-out", "4")
    run(pretrain_pictures, monkeypatch, *options, "--minutes", "0.01")
    first = json.loads((output / "summary.json").read_text())
    assert (first["pictures"], first["held_out"]) == (20, 4)
    with pytest.raises(SystemExit, match="give --resume"):
        run(pretrain_pictures, monkeypatch, *options, "--minutes", "0.01")
    more = str(first["seconds"] / 60 + 0.01)
    run(pretrain_pictures, monkeypatch, *options, "--minutes", more, "--resume")
    assert json.loads((output / "summary.json").read_text())["steps"] > first["steps"]

    weights = torch.load(output / "encoder.pt", weights_only=True)
    plain = pretrain_pictures.build_encoder()
    plain.load_state_dict({name: weight.float() for name, weight in weights.items()})

    some = ("--seeds", "1", "--epochs", "1", "--depths", "2", "--random-depths", "1")
    encoder = str(output / "encoder.pt")
    run(score_pictures, monkeypatch, encoder, str(pictures), "--output", str(output), *some)
    with (output / "finetuned.csv").open() as table:
        rows = [(row["model"], row["depth"]) for row in csv.DictReader(table)]
    assert rows == [("pretrained", "2"), ("random", "1")]
    with (output / "probed.csv").open() as table:
        assert [row["layer"] for row in csv.DictReader(table)] == [str(n) for n in range(13)]


def test_turns_and_flips_move_pixels_and_change_none() -> None:
    pixels = torch.randint(0, 255, (16, 3, 64, 64), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    moved = pretrain_pictures.augment(pixels, 1.0, generator)
    for before, after in zip(pretrain_pictures.normalise(pixels), moved, strict=True):
        ways = [turn for flip in (before, before.flip(2)) for turn in _turns(flip)]
        assert any(torch.allclose(way, after, atol=1e-3) for way in ways)


def _turns(picture: torch.Tensor) -> list[torch.Tensor]:
    return [picture.rot90(times, (1, 2)) for times in range(4)]
