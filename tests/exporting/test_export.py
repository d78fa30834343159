"""``simpler.export``: every format proven, every mistake said, and nothing left of a failure."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import terratorch_simpler as simpler
from terratorch_simpler.exporting import measure, source
from terratorch_simpler.exporting.checkpoint import read_checkpoint
from terratorch_simpler.exporting.export import Export
from terratorch_simpler.exporting.formats import onnx
from terratorch_simpler.exporting.proof import largest_difference, relative_difference
from terratorch_simpler.exporting.source import read_source
from terratorch_simpler.results.deployment import Deployment
from tests.conftest import TINY
from tests.exporting.conftest import BACKBONE, SEGMENTATION, SIZE, UNET, save_task
from tests.rasters import BANDS, write_tiles

DINO = {
    "backbone": "simpler_timm_vit_small_patch14_dinov2",
    "backbone_keep_blocks": 2,
    "backbone_img_size": 56,
    "backbone_dynamic_img_size": True,
    "decoder": "FCNDecoder",
    "decoder_channels": 8,
    "num_classes": 2,
}
MEANS, STDS = [1800.0] * 6, [400.0] * 6
Write = Callable[..., Export]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the full model and the checkpoint, which take a process each."""
    monkeypatch.setattr(measure, "compare", lambda _source: [])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config with data for the task: tiles, and classes as labels."""
    folder = tmp_path_factory.mktemp("config")
    images = write_tiles(folder / "tiles", 4)
    labels = folder / "labels"
    labels.mkdir()
    import rasterio

    for image in sorted(images.glob("*.tif")):
        with rasterio.open(image) as read:
            profile = read.profile | {"count": 1, "dtype": "uint8"}
            classes = (read.read(1) > 1800).astype("uint8")
        with rasterio.open(labels / image.name, "w", **profile) as written:
            written.write(classes, 1)
    data = {
        "class_path": "terratorch.datamodules.GenericNonGeoSegmentationDataModule",
        "init_args": {
            "batch_size": 2,
            "num_workers": 0,
            "num_classes": 3,
            **{f"{split}_data_root": str(images) for split in ("train", "val", "test")},
            **{f"{split}_label_data_root": str(labels) for split in ("train", "val", "test")},
            "img_grep": "*.tif",
            "label_grep": "*.tif",
            "dataset_bands": BANDS,
            "output_bands": BANDS,
            "means": MEANS,
            "stds": STDS,
            "no_data_replace": 0,
        },
    }
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump({"data": data}))
    return path


@pytest.fixture(scope="module")
def whole(saved: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """The checkpoint as ONNX, proven and compared in processes of their own."""
    path = tmp_path_factory.mktemp("whole") / "model.onnx"
    return simpler.export(saved, "onnx", path, config=config)


@pytest.mark.long
def test_all_three_are_compared(whole: Export) -> None:
    done, folder = whole, whole.files[0].parent
    assert [one.name for one in done.measured] == ["full", "checkpoint", "onnx"]
    full, checkpoint, onnx = done.measured
    assert full.megabytes > checkpoint.megabytes
    assert onnx.difference is not None
    assert 0 < onnx.difference < 1e-3
    # A process without torch holds less.
    assert onnx.peak_mb is None or checkpoint.peak_mb is None or onnx.peak_mb < checkpoint.peak_mb
    assert done.tile == "a tile of the config"
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.onnx"]
    record = Deployment.from_json((folder / "model.json").read_text(), "model.json")
    (entry,) = record.inputs
    assert (entry.bands, entry.means, entry.stds) == (tuple(BANDS), tuple(MEANS), tuple(STDS))
    assert (entry.height, entry.width, record.no_data_replace) == (SIZE, SIZE, 0)
    assert record.model is not None
    assert record.model.kept_blocks == (0, 1, 2, 3, 4)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["terratorch", "safetensors", "vllm", "pt2"])
@pytest.mark.usefixtures("alone", "forked")
def test_every_other_format_is_proven(saved: Path, tmp_path: Path, to: Any, config: Path) -> None:
    output = tmp_path / ("model.pt2" if to == "pt2" else to)
    done = simpler.export(saved, to, output, config=config)
    (measured,) = done.measured
    assert measured.difference == 0
    assert done.files == (output,)
    files = [output] if to == "pt2" else [*output.iterdir()]
    # No word of this package in what plain TerraTorch reads.
    for file in files:
        if to in ("terratorch", "vllm") and file.name not in ("preprocessing.json", "plan.json"):
            assert b"simpler" not in file.read_bytes().lower(), file
    if to == "terratorch":
        values = yaml.safe_load((output / "config.yaml").read_text())
        model = values["model"]["init_args"]["model_args"]
        assert (model["backbone"], model["backbone_depth"]) == (TINY, 5)
        assert model["necks"][0]["indices"] == [1, 2, 3, 4]
        assert values["data"]["init_args"]["means"] == MEANS


@pytest.mark.slow
@pytest.mark.parametrize(
    "to",
    [
        "onnx",
        *(pytest.param(to, marks=pytest.mark.long) for to in ("pt2", "terratorch", "safetensors")),
    ],
)
@pytest.mark.usefixtures("alone")
def test_patches_that_are_multiplied_are_proven(tmp_path: Path, to: Any, config: Path) -> None:
    saved = save_task(
        tmp_path / "model.ckpt", SEGMENTATION | {"backbone_patch_embedding": "matmul"}
    )
    output = tmp_path / (f"model.{to}" if to in ("onnx", "pt2") else to)
    done = simpler.export(saved, to, output, config=config)
    (measured,) = done.measured
    assert measured.difference is not None
    assert measured.difference < 1e-4
    if to == "terratorch":
        assert "patch_embedding" not in (output / "config.yaml").read_text()


@pytest.mark.long
@pytest.mark.usefixtures("alone")
def test_a_quantised_one_says_what_it_costs(
    saved: Path, tmp_path: Path, config: Path, whole: Export
) -> None:
    small = simpler.export(saved, "onnx", tmp_path / "small.onnx", config=config, quantize="int8")
    assert small.measured[0].megabytes < 0.5 * whole.measured[-1].megabytes
    before, after = small.accuracy["val/mIoU"]
    assert before == pytest.approx(after, abs=0.1)
    # What a runtime reads of it stays.
    import onnx

    stored = {e.key: e.value for e in onnx.load(tmp_path / "small.onnx").metadata_props}
    assert stored["terratorch_simpler"] == (tmp_path / "small.json").read_text()
    half = simpler.export(saved, "pt2", tmp_path / "half.pt2", config=config, quantize="bf16")
    assert half.measured[0].difference is not None
    assert half.measured[0].difference > 0


@pytest.mark.long
@pytest.mark.usefixtures("alone")
def test_batches_and_where_it_can_tiles_of_any_size_are_taken(
    saved: Path, tmp_path: Path, whole: Export
) -> None:
    (fixed,) = (file for file in whole.files if file.suffix == ".onnx")
    _check_same(saved, fixed, [(1, 6, SIZE, SIZE), (3, 6, SIZE, SIZE)])
    path = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match="leave dynamic_size out"):
        simpler.export(saved, "onnx", path, dynamic_size=True)
    other = save_task(tmp_path / "timm.ckpt", DINO)
    simpler.export(other, "onnx", path, dynamic_size=True)
    assert json.loads(path.with_suffix(".json").read_text())["dynamic_size"]
    _check_same(other, path, [(1, 3, 56, 56), (2, 3, 84, 112)])


def _check_same(checkpoint: Path, path: Path, shapes: list[tuple[int, ...]]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    model: Any = simpler.load(checkpoint)
    for shape in shapes:
        images = torch.randn(shape)
        (output,) = session.run(None, {"image": images.numpy()})
        with torch.inference_mode():
            expected = model(images).output.numpy()
        np.testing.assert_allclose(output, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("alone", "forked")
def test_adapters_are_merged_where_it_is_asked_for(tmp_path: Path) -> None:
    peft = {
        "method": "LORA",
        "replace_qkv": "qkv",
        "peft_config_kwargs": {"r": 4, "target_modules": ["qkv.q_linear", "qkv.v_linear"]},
    }
    path = save_task(tmp_path / "lora.ckpt", {**SEGMENTATION, "peft_config": peft})
    # LoRA begins as nothing: give it something to add.
    content = torch.load(path, weights_only=True)
    for name, value in content["state_dict"].items():
        if "lora_B" in name:
            value.normal_(std=0.1)
    torch.save(content, path)
    with pytest.raises(ValueError, match="--merge writes them into the weights"):
        simpler.export(path, "pt2", tmp_path / "a.pt2")
    simpler.export(path, "pt2", tmp_path / "a.pt2", merge=True)
    # In plain TerraTorch as well: queries, keys and values are one layer again.
    simpler.export(path, "terratorch", tmp_path / "plain", merge=True)
    with_adapters: Any = simpler.load(path)
    images = torch.randn(1, 6, SIZE, SIZE)
    with torch.inference_mode():
        expected = with_adapters(images).output
        output = torch.export.load(tmp_path / "a.pt2").module()(images)
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("alone")
def test_an_export_that_differs_is_not_written(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = measure.reference_output
    monkeypatch.setattr(measure, "reference_output", lambda source: reference(source) + 1)
    with pytest.raises(ValueError, match="differs from the checkpoint's by 1, more than"):
        simpler.export(saved, "pt2", tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def little_room() -> Iterator[None]:
    """Files end after a megabyte, as on a disk that fills."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("to", ["terratorch", "safetensors", "vllm", "pt2"])
@pytest.mark.usefixtures("little_room")
def test_a_disk_that_fills_leaves_nothing(saved: Path, tmp_path: Path, to: Any) -> None:
    name = "model.pt2" if to == "pt2" else "model"
    with pytest.raises(OSError, match=rf"File too large.* nothing is left of it: .*{name}"):
        simpler.export(saved, to, tmp_path / "new" / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("to", "output", "options", "message"),
    [
        ("tflite", "model", {}, "unknown format 'tflite': choose one of terratorch"),
        ("onnx", "model", {}, "let its name end in .onnx"),
        ("pt2", "model.pt", {}, "let its name end in .pt2"),
        ("terratorch", "model.ckpt", {}, "is written as a folder"),
        ("pt2", "model.pt2", {"opset": 18}, "opset is for onnx, not for pt2"),
        ("pt2", "model.pt2", {"dynamic_size": True}, "dynamic_size is for onnx"),
        ("vllm", "model", {"quantize": "int8"}, "vllm cannot be quantised to int8: onnx to int8"),
        (
            "onnx",
            "model.onnx",
            {"quantize": "int8"},
            "needs the data of a config (config): its validation",
        ),
        ("onnx", "model.onnx", {"opset": 12}, "opset must be at least 18, got 12"),
        ("onnx", "model.onnx", {"size": 60}, "size must be a multiple of it, 48 or 64, got 60"),
        ("pt2", "model.pt2", {"config": "none.yaml"}, "no config at none.yaml"),
    ],
)
def test_mistakes_are_said(
    saved: Path, tmp_path: Path, to: Any, output: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        simpler.export(saved, to, tmp_path / output, **options)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_replaced_unasked(saved: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.pt2"
    output.write_text("mine")
    with pytest.raises(FileExistsError, match="already there"):
        simpler.export(saved, "pt2", output)
    assert output.read_text() == "mine"


def test_a_file_in_the_way_is_found_before_anything_is_built(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("mine")
    with pytest.raises(FileExistsError, match=r"model\.json"):
        simpler.export(tmp_path / "none.ckpt", "onnx", tmp_path / "model.onnx")


def test_a_tile_that_does_not_fit_is_said(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "random_tile", lambda *_: torch.zeros(1, 3, SIZE, SIZE))
    with pytest.raises(ValueError, match=r"reads 6 bands, the tiles have shape \[3, 64, 64\]"):
        read_source(read_checkpoint(saved), None, False, None)
    built = {**DINO, "backbone_dynamic_img_size": False}
    path = save_task(tmp_path / "a.ckpt", built)
    monkeypatch.setattr(source, "random_tile", lambda *_: torch.zeros(1, 3, 28, 28))
    with pytest.raises(ValueError, match="28"):
        read_source(read_checkpoint(path), None, False, None)


def test_what_only_data_says_is_asked_for(tmp_path: Path) -> None:
    dates = {"backbone_use_temporal": True, "backbone_temporal_pooling": "mean"}
    for name, full in (("pruned", False), ("full", True)):
        given = {**SEGMENTATION, **dates}
        if full:
            given = {**given, "backbone": TINY}
            del given["backbone_keep_blocks"]
        path = save_task(tmp_path / f"{name}.ckpt", given)
        with pytest.raises(ValueError, match=r"reads several frames.*name the task's config"):
            read_source(read_checkpoint(path), None, False, None)


@pytest.mark.slow
def test_one_of_8_bits_lies_in_one_file(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if its weights were larger than what a file can hold.
    monkeypatch.setattr(onnx, "LARGEST", 0)
    read = read_source(read_checkpoint(saved), None, False, None)
    onnx.write(read, tmp_path / "model.onnx", quantize="int8")
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.json"}


def test_tasks_and_backbones_that_cannot_be_exported_are_refused(tmp_path: Path) -> None:
    scalar = {"backbone": TINY, **BACKBONE, "necks": [{"name": "AggregateTokens"}]}
    scalar |= {"decoder": "IdentityDecoder", "num_outputs": 1}
    path = save_task(tmp_path / "a.ckpt", scalar, "ScalarRegressionTask")
    with pytest.raises(ValueError, match="holds a ScalarRegressionTask: SemanticSegmentation"):
        simpler.export(path, "pt2", tmp_path / "a.pt2")


def test_what_draws_random_numbers_is_refused(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from terratorch_simpler.backbones.families.prithvi import Prithvi

    # As TerraMind's thinking in modalities does.
    monkeypatch.setattr(Prithvi, "generates", True)
    with pytest.raises(ValueError, match="draws random numbers when it runs"):
        simpler.export(saved, "onnx", tmp_path / "a.onnx")


def test_the_note_of_the_callback_stands_in_for_a_config(saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True)
    known = {"bands": BANDS, "means": MEANS, "stds": STDS}
    content["terratorch_simpler"]["preprocessing"] = {
        "inputs": {"image": known},
        "no_data_replace": 1.0,
    }
    path = tmp_path / "a.ckpt"
    torch.save(content, path)
    record = read_source(read_checkpoint(path), None, False, None).deployment
    assert record.inputs[0].means == tuple(MEANS)
    assert record.no_data_replace == 1


def test_a_card_tells_weights_apart(saved: Path, tmp_path: Path) -> None:
    from terratorch_simpler.exporting.card import render_card

    content = torch.load(saved, weights_only=True)
    arguments = content["hyper_parameters"]["model_args"]
    given: list[tuple[dict[str, Any], str]] = [
        ({}, "Trained without pre-trained weights."),
        ({"backbone_pretrained": True}, "ibm-nasa-geospatial/Prithvi-EO-2.0-tiny-TL"),
        (
            {"backbone_pretrained": True, "backbone_ckpt_path": "here/mine.pt"},
            "the weights in a file `mine.pt`",
        ),
    ]
    for changes, said in given:
        content["hyper_parameters"]["model_args"] = {**arguments, **changes}
        path = tmp_path / "a.ckpt"
        torch.save(content, path)
        read = read_source(read_checkpoint(path), None, False, None)
        card = render_card(read.deployment, read.parent)
        assert said in card
        assert "More Information Needed" not in card
        metadata = yaml.safe_load(card.split("---")[1])
        assert metadata["license"] == ("apache-2.0" if "ibm-nasa" in said else "unknown")


def test_differences_are_those_of_numpy() -> None:
    one = np.array([1.0, 2.0, 4.0], dtype=np.float32)
    other = np.array([1.0, 2.5, 3.0], dtype=np.float32)
    assert largest_difference(one, other) == 1.0
    expected = np.sqrt(1.25 / 3) / np.std([1.0, 2.5, 3.0])
    assert relative_difference(one, other) == pytest.approx(expected)
    assert largest_difference(one, other[:2]) == float("inf")
    assert relative_difference(one, other[:2]) == float("inf")


def test_a_full_model_can_be_exported_too(tmp_path: Path) -> None:
    path = save_task(tmp_path / "a.ckpt", {"backbone": TINY, **BACKBONE, **UNET, "num_classes": 2})
    read = read_source(read_checkpoint(path), None, False, None)
    assert read.pruned is None
    assert read.deployment.model is None
    assert json.loads(read.deployment.to_json())["output"]["channels"] == 2


def test_a_full_model_that_cannot_be_cut_can_be_exported(tmp_path: Path) -> None:
    given = {"backbone": "timm_resnet18", "backbone_pretrained": False, "num_classes": 2}
    path = save_task(tmp_path / "a.ckpt", {**given, "decoder": "FCNDecoder", "decoder_channels": 8})
    read = read_source(read_checkpoint(path), None, False, SIZE)
    assert read.deployment.output.channels == 2
