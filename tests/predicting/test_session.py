from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from terratorch_simpler.predicting.session import OnnxModel
from terratorch_simpler.results.deployment import Deployment, ModelInput
from terratorch_simpler.tiles.grid import Image
from tests.predicting.models import deployment, weights, write_model


def window(channels: int = 6, size: int = 32, seed: int = 0) -> Image:
    return np.random.default_rng(seed).normal(size=(channels, size, size)).astype(np.float32)


def test_pixels_are_normalised_as_the_record_says(tmp_path: Path) -> None:
    means, stds = tuple(range(6)), (1.0, 2.0, 4.0, 0.5, 8.0, 16.0)
    model = OnnxModel(write_model(tmp_path / "m.onnx", deployment(means=means, stds=stds)))
    image = window()
    normal = (image - np.reshape(means, (6, 1, 1))) / np.reshape(stds, (6, 1, 1))
    expected = np.einsum("oi,ihw->ohw", weights(3, 6)[:, :, 0, 0], normal)
    assert np.allclose(model.run([image])[0], expected, atol=1e-4)


def test_pixels_go_in_as_they_are_without_means(tmp_path: Path) -> None:
    model = OnnxModel(write_model(tmp_path / "m.onnx", deployment()))
    image = window()
    expected = np.einsum("oi,ihw->ohw", weights(3, 6)[:, :, 0, 0], image)
    assert np.allclose(model.run([image])[0], expected, atol=1e-4)


def test_a_file_of_one_batch_size_gets_whole_batches(tmp_path: Path) -> None:
    free = OnnxModel(write_model(tmp_path / "free.onnx", deployment()))
    four = OnnxModel(write_model(tmp_path / "four.onnx", deployment(), batch=4))
    assert (free.batch_size(3), four.batch_size(3)) == (3, 4)
    images = [window(seed=seed) for seed in range(3)]
    assert np.array_equal(four.run(images), free.run(images))


def test_time_steps_are_an_axis_after_the_channels(tmp_path: Path) -> None:
    """The graph of the tests sums over them."""
    model = OnnxModel(write_model(tmp_path / "m.onnx", deployment(frames=2)))
    image = window(12)
    expected = np.einsum("oi,ihw->ohw", weights(3, 6)[:, :, 0, 0], image[:6] + image[6:])
    assert np.allclose(model.run([image])[0], expected, atol=1e-4)


def test_inputs_get_their_own_bands(tmp_path: Path) -> None:
    one = deployment().inputs[0].model_dump()
    inputs = (
        ModelInput(**one | {"name": "radar", "bands": ("VV", "VH"), "channels": 2}),
        ModelInput(**one),
    )
    model = OnnxModel(write_model(tmp_path / "m.onnx", deployment(inputs=inputs)))
    image = window(8)
    expected = np.einsum("oi,ihw->ohw", weights(3, 8)[:, :, 0, 0], image)
    assert np.allclose(model.run([image])[0], expected, atol=1e-4)


def test_values_of_regression_have_one_channel(tmp_path: Path) -> None:
    record = deployment("regression", classes=1)
    model = OnnxModel(write_model(tmp_path / "m.onnx", record))
    assert model.run([window(), window()]).shape == (2, 1, 32, 32)


def test_the_fingerprint_is_that_of_the_weights(tmp_path: Path) -> None:
    first = OnnxModel(write_model(tmp_path / "a.onnx", deployment()))
    same = OnnxModel(write_model(tmp_path / "b.onnx", deployment()))
    other = OnnxModel(write_model(tmp_path / "c.onnx", deployment(), seed=1))
    assert first.fingerprint == same.fingerprint != other.fingerprint
    (tmp_path / "b.onnx.data").write_bytes(b"weights")
    beside = OnnxModel(tmp_path / "b.onnx")
    assert beside.fingerprint != same.fingerprint


def test_no_such_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"no exported model at m\.onnx: make one with '"):
        OnnxModel("m.onnx")


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08" * 40])
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.onnx is not an ONNX file that onnxruntime .* export"):
        OnnxModel(path)


def test_a_file_that_says_nothing_of_itself_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", None)
    with pytest.raises(
        ValueError, match=r"is an ONNX file, but nothing in it says .*inputs: image .* export"
    ):
        OnnxModel(path)


def test_a_newer_record_is_refused(tmp_path: Path) -> None:
    text = json.dumps(json.loads(deployment().to_json()) | {"schema_version": 2})
    path = write_model(tmp_path / "m.onnx", deployment(), metadata=text)
    with pytest.raises(ValueError, match="schema 2, this version reads up to 1: upgrade"):
        OnnxModel(path)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_a_model_of_whole_tiles_makes_no_map(task: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", deployment(task))
    with pytest.raises(ValueError, match=f"is a model of {task}: .* Run it on tiles of its size"):
        OnnxModel(path)


@dataclass(frozen=True)
class Differs:
    """A record that the graph of 6 channels and 32 px does not fit."""

    record: Deployment
    said: str


@pytest.mark.parametrize(
    "case",
    [
        Differs(deployment(size=64), r"float\) \[6, 32, 32\], its record says float \[6, 64, 64\]"),
        Differs(deployment(frames=1), r"its record says float \[6, 1, 32, 32\]"),
        Differs(
            deployment(output={"name": "logits", "classes": None, "channels": 3}),
            r"outputs \['output'\], its record says \['image'\] and logits",
        ),
    ],
)
def test_a_record_of_another_graph_is_refused(case: Differs, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", deployment(), metadata=case.record.to_json())
    with pytest.raises(ValueError, match=case.said):
        OnnxModel(path)


def test_an_output_of_another_shape_is_refused(tmp_path: Path) -> None:
    text = deployment(classes=5).to_json()
    model = OnnxModel(write_model(tmp_path / "m.onnx", deployment(), metadata=text))
    with pytest.raises(ValueError, match=r"gives \[1, 3, 32, 32\] where .* says \[1, 5, 32, 32\]"):
        model.run([window()])


def test_a_run_that_fails_says_of_what(tmp_path: Path) -> None:
    model = OnnxModel(write_model(tmp_path / "m.onnx", deployment()))
    with pytest.raises(ValueError, match=r"m\.onnx failed on 1 windows of 16 x 16 px"):
        model.run([window(size=16)])


def test_without_onnxruntime_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "m.onnx", deployment())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="pip install onnxruntime"):
        OnnxModel(path)
