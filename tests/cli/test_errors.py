"""Mistakes at the command line: each ends in status 2 and one line that says how to go on."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from terratorch_simpler.cli import main
from tests.rasters import BANDS, landscape, truncate, write_raster, write_tiles

PREFIX = "terratorch-simpler: error: "
OUTPUT = "out"

CONFIG = """\
seed_everything: 0
trainer:
  accelerator: cpu
  max_epochs: 1
  logger: false
  enable_checkpointing: false
data:
  class_path: terratorch.datamodules.GenericNonGeoSegmentationDataModule
  init_args:
    batch_size: 4
    num_workers: 0
    num_classes: 2
    train_data_root: tiles
    train_label_data_root: masks
    val_data_root: tiles
    val_label_data_root: masks
    test_data_root: tiles
    test_label_data_root: masks
    img_grep: "*.tif"
    label_grep: "*.tif"
    dataset_bands: [BLUE, GREEN, RED, NIR_NARROW, SWIR_1, SWIR_2]
    output_bands: [BLUE, GREEN, RED, NIR_NARROW, SWIR_1, SWIR_2]
    means: [1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0]
    stds: [2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0]
    rgb_indices: [2, 1, 0]
model:
  class_path: terratorch.tasks.SemanticSegmentationTask
  init_args:
    model_factory: EncoderDecoderFactory
    model_args:
      backbone: prithvi_eo_tiny
      backbone_pretrained: false
      backbone_bands: [BLUE, GREEN, RED, NIR_NARROW, SWIR_1, SWIR_2]
      necks:
        - name: ReshapeTokensToImage
      decoder: FCNDecoder
      num_classes: 2
    loss: ce
    ignore_index: -1
"""

Options = dict[str, Any]
"""Changes to the options of a working command: None leaves one out."""


def command(options: Options) -> list[str]:
    """``select`` on the folder ``tiles``, or on ``task.yaml`` if the options name a config."""
    base: Options = {"output": OUTPUT, "accelerator": "cpu", "quiet": True}
    if "config" not in options or options["config"] is None:
        base |= {"backbone": "prithvi_eo_tiny", "pretrained": "false", "tiles": "tiles"}
        base |= {"bands": BANDS, "size": 64}
    arguments = ["select"]
    for name, value in (base | options).items():
        if name in ("quiet", "overwrite", "debug"):
            arguments += [f"--{name}"] * value
        elif value is not None:
            values = value if isinstance(value, list) else [value]
            arguments += [f"--{name}", *map(str, values)]
    return arguments


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
        what: The mistake, in words.
        prepare: Makes files in the current folder and gives the options that differ from a working
            command.
        says: What the message must say: the cause, the value, the way out.
        patch: Breaks the machine.
        arguments: What is typed in the place of ``select ...``.
    """

    what: str
    prepare: Callable[[], Options]
    says: tuple[str, ...]
    patch: Callable[[pytest.MonkeyPatch], None] | None = None
    arguments: tuple[str, ...] | None = None

    def command(self) -> list[str]:
        """Make the files and give the arguments."""
        options = self.prepare()
        return list(self.arguments) if self.arguments is not None else command(options)


def with_tiles(**options: Any) -> Callable[[], Options]:
    """Good tiles, and these options."""

    def prepare() -> Options:
        write_tiles(Path("tiles"))
        return options

    return prepare


def other_tiles(**how: Any) -> Callable[[], Options]:
    """Tiles of another kind."""

    def prepare() -> Options:
        write_tiles(Path("tiles"), **how)
        return {}

    return prepare


def folder_of(*names: str) -> Callable[[], Options]:
    """A folder of files that are no tiles."""

    def prepare() -> Options:
        Path("tiles").mkdir()
        for name in names:
            Path("tiles", name).write_text("text")
        return {}

    return prepare


def chips_of(value: float, **how: Any) -> Callable[[], Options]:
    """Tiles that hold one value and nothing else."""

    def prepare() -> Options:
        for index in range(6):
            image = np.full((6, 64, 64), value)
            write_raster(Path(f"tiles/tile_{index}.tif"), image, **how)
        return {}

    return prepare


def broken(change: Callable[[Path], object], **options: Any) -> Callable[[], Options]:
    """Good tiles but for one."""

    def prepare() -> Options:
        write_tiles(Path("tiles"))
        change(Path("tiles/tile_4.tif"))
        return options

    return prepare


def config(
    *edits: tuple[str, str],
    image: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda image: image,
    count: int = 6,
    change: Callable[[Path], object] = lambda path: None,
    classes: int = 1,
    size: int = 64,
    **options: Any,
) -> Callable[[], Options]:
    """A working config but for these edits, and tiles with masks.

    Args:
        *edits: Text of the config and what it becomes.
        image: Changes the values of one tile.
        count: Number of tiles.
        change: Changes the file of one tile.
        classes: Classes in the masks, in stripes.
        size: Height and width of the tiles.
        **options: Further options.
    """

    def prepare() -> Options:
        text = CONFIG
        for old, new in edits:
            assert text.count(old) >= 1
            text = text.replace(old, new)
        Path("task.yaml").write_text(text)
        for index in range(count):
            values = landscape(6, size, seed=index)
            values = image(values) if index == 1 else values
            path = write_raster(Path(f"tiles/tile_{index}.tif"), values, dtype="float32")
            mask = np.full((1, size, size), np.arange(size) // 16 % classes)
            write_raster(Path(f"masks/tile_{index}.tif"), mask, dtype="uint8")
            if index == 1:
                change(path)
        return {"config": "task.yaml"} | options

    return prepare


def text_config(text: str | bytes) -> Callable[[], Options]:
    """A config of this text."""

    def prepare() -> Options:
        Path("task.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
        return {"config": "task.yaml"}

    return prepare


def holed(value: float) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Sets one pixel."""

    def change(image: NDArray[np.float32]) -> NDArray[np.float32]:
        image[2, 5, 7] = value
        return image

    return change


def checkpoint(
    write: Callable[[Path], object], name: str = "prithvi_eo_v2_tiny_tl"
) -> Callable[[], Options]:
    """Good tiles, and a backbone with this checkpoint."""

    def prepare() -> Options:
        write_tiles(Path("tiles"))
        write(Path("weights.pt"))
        return {"backbone": name, "pretrained": "true", "backbone_args.ckpt_path": "weights.pt"}

    return prepare


def tiny_weights(path: Path) -> Path:
    from terratorch.registry import BACKBONE_REGISTRY

    torch.save(BACKBONE_REGISTRY.build("prithvi_eo_tiny", pretrained=False).state_dict(), path)
    return path


def half_weights(path: Path) -> None:
    from terratorch.registry import BACKBONE_REGISTRY

    weights = BACKBONE_REGISTRY.build("prithvi_eo_tiny", pretrained=False).state_dict()
    kept = {key: weights[key] for key in weights if not key.startswith(("blocks.2", "blocks.3"))}
    torch.save(kept, path)


def files_there(*names: str) -> Callable[[], Options]:
    """Good tiles, and results in the output folder."""

    def prepare() -> Options:
        write_tiles(Path("tiles"))
        Path(OUTPUT).mkdir()
        for name in names:
            Path(OUTPUT, name).write_text("kept")
        return {}

    return prepare


def file_as_output(output: str) -> Callable[[], Options]:
    """Good tiles, and a file where the output folder, or one above it, should be."""

    def prepare() -> Options:
        write_tiles(Path("tiles"))
        Path(OUTPUT).write_text("kept")
        return {"output": output}

    return prepare


def disk_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

    for accelerator in (CUDAAccelerator, MPSAccelerator):
        monkeypatch.setattr(accelerator, "is_available", staticmethod(lambda: False))


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


BACKBONE = "      backbone: prithvi_eo_tiny\n"
CHECKPOINT = (
    (BACKBONE, f"{BACKBONE}      backbone_ckpt_path: weights.pt\n"),
    ("pretrained: false", "pretrained: true"),
)
TILES = [
    Case("folder of tiles missing", dict, ("no such folder or file of tiles: tiles",)),
    Case("folder of tiles empty", folder_of(), ("no raster", "tif", "tiles")),
    Case(
        "folder without a raster",
        folder_of("a.png", "b.txt"),
        ("no raster", "tif", "tiles"),
    ),
    Case("glob without a match", with_tiles(tiles="tiles/*.jp2"), ("no raster", "tiles/*.jp2")),
    Case("truncated GeoTIFF", broken(truncate), ("tile_4.tif", "truncated", "remove or replace")),
    Case(
        "truncated GeoTIFF, read by workers",
        broken(truncate, num_workers=2),
        ("tile_4.tif", "truncated", "remove or replace"),
    ),
    Case(
        "text file named .tif",
        broken(lambda path: path.write_text("hello")),
        ("tile_4.tif", "is not a raster that GDAL can read", "remove or replace"),
    ),
    Case(
        "empty file named .tif",
        broken(lambda path: path.write_bytes(b"")),
        ("tile_4.tif", "is not a raster that GDAL can read", "remove or replace"),
    ),
    Case(
        "fewer bands than asked for",
        other_tiles(bands=4),
        ("holds 4 bands", "6 are asked for", "dataset_bands"),
    ),
    Case(
        "one file with fewer bands",
        broken(lambda path: write_raster(path, landscape(5))),
        ("tile_4.tif holds 5 bands", "6 are asked for", "dataset_bands"),
    ),
    Case(
        "--dataset_bands of another number than in the files",
        with_tiles(dataset_bands=[*BANDS, "DEM"]),
        ("holds 6 bands", "dataset_bands names 7"),
    ),
    Case(
        "band that is not in the files",
        other_tiles(descriptions=["B02", "B03", "B04", "B08", "B11", "B12"]),
        ("has no NIR_NARROW", "BLUE, GREEN, RED, NIR_BROAD, SWIR_1, SWIR_2", "dataset_bands"),
    ),
    Case(
        "band that is not in --dataset_bands",
        with_tiles(bands=[*BANDS[:5], "SWIR_9"], dataset_bands=BANDS),
        ("SWIR_9 not in dataset_bands", ", ".join(BANDS)),
    ),
    Case(
        "band that no weights were trained on",
        with_tiles(bands=[*BANDS[:5], "SWIR_9"]),
        ("SWIR_9", "means and stds"),
    ),
    Case("band named twice", with_tiles(bands=[*BANDS[:5], "RED"]), ("bands names RED more than",)),
    Case(
        "tiles smaller than a chip",
        with_tiles(size=224),
        ("smaller than a chip of 224 x 224", "64 x 64", "set size"),
    ),
    Case(
        "every chip nodata",
        chips_of(7, nodata=7),
        ("0 usable chips", "6 mostly nodata", "add tiles"),
    ),
    Case("every chip zero", chips_of(0), ("0 usable chips", "6 mostly nodata", "add tiles")),
    Case(
        "every chip NaN",
        chips_of(np.nan, dtype="float32"),
        ("0 usable chips", "6 mostly NaN or infinite", "add tiles"),
    ),
    Case(
        "every chip infinite",
        chips_of(np.inf, dtype="float32"),
        ("0 usable chips", "6 mostly NaN or infinite", "add tiles"),
    ),
    Case("fewer than 4 usable chips", other_tiles(count=3), ("3 usable chips", "at least 4")),
]
CONFIGS = [
    Case("config missing", with_tiles(config="task.yaml"), ("no config at task.yaml",)),
    Case(
        "config a folder",
        with_tiles(config="tiles"),
        ("no config at tiles",),
    ),
    Case("config not YAML", text_config("a: [1,\nb: {"), ("task.yaml is not YAML", "line 2")),
    Case("config binary", text_config(b"\x89PNG\x00\xff"), ("task.yaml is not YAML",)),
    Case("config empty", text_config(""), ("task.yaml", "no TerraTorch task config", "model_args")),
    Case(
        "config of something else", text_config("steps: [a, b]\n"), ("task.yaml", "no TerraTorch")
    ),
    Case("config without a backbone", config((BACKBONE, "")), ("task.yaml has no backbone",)),
    Case("misspelt key at the top", config(("trainer:", "trianer:")), ("task.yaml", "trianer")),
    Case(
        "misspelt key of the data",
        config(("train_data_root", "train_data_rot")),
        ("task.yaml", "train_data_rot"),
    ),
    Case(
        "misspelt key of the decoder",
        config(("decoder: FCN", "decodr: FCN")),
        ("task.yaml", "A decoder must be provided"),
    ),
    Case(
        "misspelt key of the necks",
        config(("necks:", "nekcs:")),
        ("task.yaml", "nekcs", "not used"),
    ),
    Case(
        "module for a backbone",
        config(("backbone: prithvi_eo_tiny", "backbone: {class_path: torch.nn.Identity}")),
        ("task.yaml", "is a module", "torch.nn.Identity", "name of the backbone registry"),
    ),
    Case(
        "arguments of the backbone as a dict",
        config((BACKBONE, f"{BACKBONE}      backbone_kwargs: {{img_size: 64}}\n")),
        ("task.yaml gives backbone_kwargs", "backbone_NAME in model.init_args.model_args"),
    ),
    Case(
        "another factory",
        config(("EncoderDecoderFactory", "TimmModelFactory")),
        ("task.yaml", "'TimmModelFactory'", "timm's own classifier", "EncoderDecoderFactory"),
    ),
    Case(
        "necks for PrithviModelFactory",
        config(("EncoderDecoderFactory", "PrithviModelFactory")),
        ("task.yaml", "'PrithviModelFactory'", "takes no necks", "EncoderDecoderFactory"),
    ),
    Case(
        "nothing to convert",
        config(),
        ("task.yaml is not one of PrithviModelFactory", "leave out --convert"),
        arguments=("select", "--config", "task.yaml", "--convert"),
    ),
    Case(
        "conversion without a config",
        with_tiles(),
        ("--convert needs a config", "--config"),
        arguments=("select", "--backbone", "prithvi_eo_tiny", "--tiles", "tiles", "--convert"),
    ),
    Case(
        "backbone pruned already",
        config((BACKBONE, BACKBONE.replace("prithvi", "simpler_prithvi"))),
        ("simpler_prithvi_eo_tiny already", "the full backbone, prithvi_eo_tiny"),
    ),
    Case(
        "unknown backbone in a config",
        config((BACKBONE, BACKBONE.replace("tiny", "tinny"))),
        ("no backbone 'prithvi_eo_tinny'", "did you mean", "prithvi_eo_tiny"),
    ),
    Case(
        "backbone without bands in a config",
        config((BACKBONE, BACKBONE.replace("prithvi_eo_tiny", "timm_resnet18"))),
        ("timm_resnet18 could not be built", "unexpected keyword argument 'bands'"),
    ),
    Case(
        "checkpoint of a config missing",
        config(*CHECKPOINT),
        ("no checkpoint at weights.pt", "prithvi_eo_tiny"),
    ),
    Case(
        "images of a config missing",
        config(("train_data_root: tiles", "train_data_root: gone")),
        (
            "cannot give its training images",
            "check its folders and files",
            "train_dataset has length 0",
        ),
    ),
    Case(
        "config without data",
        config((CONFIG[CONFIG.index("data:") : CONFIG.index("model:")], "")),
        ("task.yaml has no data", "--tiles"),
    ),
    Case(
        "NaN in the images of a config",
        config(image=holed(np.nan)),
        ("NaN or infinity", "no_data_replace"),
    ),
    Case(
        "infinity in the images of a config",
        config(image=holed(np.inf)),
        ("NaN or infinity", "no_data_replace"),
    ),
    Case("image of a config truncated", config(change=truncate), ("tile_1.tif",)),
    Case(
        "image of a config truncated, read by workers",
        config(("num_workers: 0", "num_workers: 2"), change=truncate, count=40),
        ("tile_1.tif",),
    ),
    Case(
        "image of a config with fewer bands",
        config(image=lambda image: image[:4]),
        ("cannot give its training images", "index 4"),
    ),
    Case("fewer than 4 images of a config", config(count=3), ("3 tiles", "at least 4")),
    Case(
        "no images of a config",
        config(count=0),
        (
            "cannot give its training images",
            "check its folders and files",
            "train_dataset has length 0",
        ),
    ),
    Case(
        "means and stds of a config of another number",
        config(("output_bands: [BLUE, ", "output_bands: [")),
        ("cannot normalise its images", "5", "6", "means and stds"),
    ),
    Case(
        "other bands in the config than the backbone reads",
        config(
            ("output_bands: [BLUE, ", "output_bands: ["),
            ("means: [1087.0, ", "means: ["),
            ("stds: [2248.0, ", "stds: ["),
        ),
        ("reads 6 bands", "[5, 64, 64]"),
    ),
    Case(
        "--tiles for a config without bands",
        config(
            ("      backbone_bands: [BLUE, GREEN, RED, NIR_NARROW, SWIR_1, SWIR_2]\n", ""),
            tiles="tiles",
        ),
        ("task.yaml names no backbone_bands",),
    ),
]
BACKBONES = [
    Case(
        "unknown backbone",
        with_tiles(backbone="prithvi_eo_v2_30"),
        ("no backbone 'prithvi_eo_v2_30'", "did you mean", "prithvi_eo_v2_300"),
    ),
    Case(
        "backbone like nothing there is",
        with_tiles(backbone="xyzzy"),
        ("no backbone 'xyzzy'", "terratorch-simpler backbones"),
    ),
    *(
        Case(
            f"backbone whose depth cannot be cut: {name}",
            with_tiles(backbone=name),
            (f"the depth of {name} cannot be cut", reason),
        )
        for name, reason in {
            "timm_convnext_atto": "hierarchical or convolutional: its 4 stages are 40, 80, 160",
            "timm_resnet18": "hierarchical or convolutional: its 5 stages are 64, 128, 256, 512",
            "timm_tnt_s_patch16_224": "turn (392, 16, 24) into [(392, 16, 24), (2, 197, 384)]",
            "timm_convmixer_768_32": "no transformer blocks: they read (2, 768, ",
            "satlas_swin_b_sentinel2_mi_ms": "differ in width, as those of hierarchical networks",
            "UNet": "no list of equal transformer blocks",
            "terramind_v1_tokenizer_dem": "it is a tokenizer",
        }.items()
    ),
    Case(
        "pruned backbone",
        with_tiles(backbone="simpler_prithvi_eo_tiny"),
        ("pruned backbone already", "'prithvi_eo_tiny'"),
    ),
    Case(
        "checkpoint missing",
        with_tiles(pretrained="true", **{"backbone_args.ckpt_path": "gone.pt"}),
        ("no checkpoint at gone.pt", "ckpt_path"),
    ),
    Case(
        "checkpoint of another architecture",
        checkpoint(tiny_weights),
        ("prithvi_eo_v2_tiny_tl could not be built with weights.pt", "size mismatch"),
    ),
    Case(
        "checkpoint that is none",
        checkpoint(lambda path: path.write_text("hello")),
        ("weights.pt of prithvi_eo_v2_tiny_tl is no file of weights",),
    ),
    Case(
        "checkpoint empty",
        checkpoint(lambda path: path.write_bytes(b"")),
        ("weights.pt of prithvi_eo_v2_tiny_tl is no file of weights",),
    ),
    Case(
        "checkpoint a tensor",
        checkpoint(lambda path: torch.save(torch.zeros(3), path)),
        ("weights.pt", "holds a Tensor, not weights by name"),
    ),
    Case(
        "checkpoint with other keys",
        checkpoint(lambda path: torch.save({"a": torch.zeros(3)}, path)),
        ("prithvi_eo_v2_tiny_tl could not be built with weights.pt",),
    ),
    Case(
        "checkpoint of Lightning",
        checkpoint(
            lambda path: torch.save(
                {"state_dict": {"model.encoder.blocks.0.norm1.weight": torch.zeros(3)}, "epoch": 3},
                path,
            )
        ),
        ("prithvi_eo_v2_tiny_tl could not be built with weights.pt",),
    ),
    Case(
        "checkpoint truncated",
        checkpoint(lambda path: truncate(tiny_weights(path))),
        ("weights.pt", "or is damaged"),
    ),
    Case("weights that do not exist", with_tiles(pretrained="true"), ("prithvi_eo_tiny",)),
    Case(
        "weights that cannot be downloaded",
        with_tiles(backbone="prithvi_eo_v2_tiny_tl", pretrained="true"),
        ("prithvi_eo_v2_tiny_tl",),
        offline,
    ),
    Case(
        "checkpoint without the blocks",
        checkpoint(half_weights, "prithvi_eo_tiny"),
        ("weights.pt does not hold prithvi_eo_tiny", "24 of 48", "blocks.2."),
    ),
    Case(
        "checkpoint of another architecture in a config",
        config(
            (
                BACKBONE,
                BACKBONE.replace("tiny", "v2_tiny_tl") + "      backbone_ckpt_path: weights.pt\n",
            ),
            ("pretrained: false", "pretrained: true"),
            change=lambda _path: tiny_weights(Path("weights.pt")),
        ),
        ("task.yaml", "size mismatch", "weights.pt"),
    ),
    Case(
        "checkpoint below a key in a config",
        config(
            *CHECKPOINT,
            change=lambda _path: torch.save({"model": {"a": torch.zeros(3)}}, "weights.pt"),
        ),
        ("weights.pt of prithvi_eo_tiny", "in ['model'], where TerraTorch does not look"),
    ),
    Case(
        "checkpoint without the blocks in a config",
        config(*CHECKPOINT, change=lambda _path: half_weights(Path("weights.pt"))),
        ("weights.pt does not hold prithvi_eo_tiny", "24 of 48", "blocks.2."),
    ),
    Case(
        "argument of a backbone of the wrong type",
        with_tiles(**{"backbone_args.depth": "deep"}),
        ("prithvi_eo_tiny could not be built", "'depth': 'deep'"),
    ),
    Case(
        "ViT adapter",
        with_tiles(backbone="prithvi_eo_v1_100", **{"backbone_args.vit_adapter": "true"}),
        ("vit_adapter",),
    ),
    Case(
        "other bands in --backbone_args",
        with_tiles(**{"backbone_args.bands": "[RED]"}),
        ("reads 1 bands", "[6, 64, 64]"),
    ),
    Case(
        "chip smaller than a patch",
        with_tiles(size=8),
        ("[8, 8] px are smaller than a patch (16)",),
    ),
]
OPTIONS = [
    Case("unknown criterion", with_tiles(criterion="cka"), ("unknown criterion 'cka'", "simpler")),
    Case("baseline without --depth", with_tiles(criterion="uniform"), ("uniform", "depth")),
    Case("criterion with --depth", with_tiles(depth=2), ("simpler", "depth")),
    Case("baseline of depth 0", with_tiles(criterion="uniform", depth=0), ("0", "4")),
    Case("baseline deeper than the backbone", with_tiles(criterion="uniform", depth=5), ("5", "4")),
    Case("unknown pooling", with_tiles(pooling="max"), ("pooling must be tokens or mean", "max")),
    Case("no tokens", with_tiles(tokens=0), ("tokens must be at least 1, got 0",)),
    Case("too few samples", with_tiles(samples=3), ("samples must be at least 4, got 3",)),
    Case("too few samples of a config", config(samples=3), ("samples must be at least 4, got 3",)),
    Case("negative seed", with_tiles(seed=-1), ("seed must be at least 0, got -1",)),
    Case("negative seed with a config", config(seed=-1), ("seed must be at least 0, got -1",)),
    Case("size 0", with_tiles(size=0), ("size must be at least 1, got 0",)),
    Case("batch size 0", with_tiles(batch_size=0), ("batch_size must be at least 1, got 0",)),
    Case(
        "negative number of workers",
        with_tiles(num_workers=-1),
        ("num_workers must be at least 0",),
    ),
    Case(
        "means of another number",
        with_tiles(means=[1.0], stds=[1.0] * 6),
        ("means has 1 values for 6",),
    ),
    Case(
        "stds of another number",
        with_tiles(means=[1.0] * 6, stds=[1.0]),
        ("stds has 1 values for 6",),
    ),
    Case(
        "a standard deviation of 0",
        with_tiles(means=[1.0] * 6, stds=[1.0] * 5 + [0]),
        ("stds must be above 0, got 0",),
    ),
    Case(
        "not a number in stds",
        with_tiles(means=[1.0] * 6, stds=[1.0] * 5 + ["nan"]),
        ("stds", "nan"),
    ),
    Case(
        "NaN in stds",
        with_tiles(means=[1.0] * 6, stds=[1.0] * 5 + [".nan"]),
        ("stds must be finite", "nan"),
    ),
    Case("means without stds", with_tiles(means=[1.0] * 6), ("means and stds together",)),
    Case("unknown accelerator", with_tiles(accelerator="abacus"), ("abacus",)),
    Case(
        "accelerator that is not there",
        with_tiles(accelerator="gpu"),
        ("cannot run with --accelerator gpu",),
        no_gpu,
    ),
    Case("unknown precision", with_tiles(precision="8"), ("precision", "8")),
    Case(
        "a precision in which weights are stored",
        with_tiles(precision="bf16-true"),
        ("precision bf16-true changes the weights", "choose bf16-mixed"),
    ),
    Case("unknown option", with_tiles(nonsense=3), ("unrecognized", "--nonsense")),
    Case("number expected", with_tiles(samples="many"), ("samples", "many", "int")),
    Case(
        "number expected where there may be none",
        with_tiles(depth="deep"),
        # The lowest jsonargparse allowed says more in between.
        ('"depth": ', "Expected a <class 'int'>", "value: deep"),
    ),
    Case(
        "both --config and --backbone",
        config(backbone="prithvi_eo_tiny"),
        ("either", "--config", "--backbone"),
    ),
    Case(
        "neither --config nor --backbone",
        with_tiles(backbone=None),
        ("either", "--config", "--backbone"),
    ),
    Case("--backbone without --tiles", with_tiles(tiles=None), ("--backbone needs --tiles",)),
    Case("--backbone without --bands", with_tiles(bands=None), ("--backbone needs --bands",)),
    Case("--config with --bands", config(bands=BANDS), ("--bands comes from the config",)),
    Case(
        "how tiles are read, which are the config's",
        config(mask="scl"),
        ("--mask says how --tiles are read", "leave it out", "name files (--tiles)"),
    ),
    Case("no command", dict, ("select", "demo", "--help"), arguments=()),
    Case(
        "demo without training",
        dict,
        ("epochs must be at least 1, got 0",),
        arguments=("demo", "--epochs", "0"),
    ),
    Case(
        "demo over other results",
        files_there("plan.json"),
        ("out/plan.json already there", "--overwrite"),
        arguments=("demo", "--output", "out"),
    ),
    Case("unknown command", dict, ("choose", "select", "demo"), arguments=("choose",)),
]
RESULTS = [
    Case(
        "file in the place of the output folder",
        file_as_output(OUTPUT),
        ("cannot write to the folder out", "choose another"),
    ),
    Case(
        "output folder below a file",
        file_as_output(f"{OUTPUT}/deep/er"),
        ("cannot write to the folder out/deep/er", "choose another"),
    ),
    Case(
        "plan in the output folder",
        files_there("plan.json", "notes.txt"),
        ("out/plan.json", "already there", "--overwrite"),
    ),
    Case(
        "figure in the output folder",
        files_there("scores.png"),
        ("out/scores.png", "already there", "--overwrite"),
    ),
    Case(
        "disk full",
        with_tiles(),
        ("No space left on device", "out", "nothing was left behind"),
        disk_full,
    ),
    Case(
        "disk full, config",
        config(),
        ("No space left on device", "out", "nothing was left behind"),
        disk_full,
    ),
]


def no_gpu_for_fabric(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.fabric.accelerators.cuda import CUDAAccelerator
    from lightning.fabric.accelerators.mps import MPSAccelerator

    for accelerator in (CUDAAccelerator, MPSAccelerator):
        monkeypatch.setattr(accelerator, "is_available", staticmethod(lambda: False))


def mistake_in(
    command: str,
    what: str,
    typed: str,
    *says: str,
    prepare: Callable[[], Options] = dict,
    patch: Callable[[pytest.MonkeyPatch], None] | None = None,
) -> Case:
    """A mistake in a command, by what is typed after it."""
    arguments = (command, *typed.split(), "--quiet", "--output", OUTPUT)
    return Case(f"{command}: {what}", prepare, says, patch, arguments)


profiling = partial(mistake_in, "profile")
TINY = "--backbone prithvi_eo_tiny --accelerator cpu"
PROFILES = [
    profiling(
        "both --config and --backbone",
        f"{TINY} --config a.yaml",
        "either",
        "--config",
        "--backbone",
    ),
    profiling("neither --config nor --backbone", "", "either", "--config", "--backbone"),
    profiling(
        "--config with --backbone_args",
        "--config a.yaml --backbone_args.img_size 64",
        "--backbone_args comes from the config",
    ),
    profiling("unknown backbone", "--backbone prithvi_eo_tinny", "did you mean", "prithvi_eo_tiny"),
    profiling(
        "backbone whose depth cannot be cut",
        "--backbone timm_resnet18",
        "the depth of timm_resnet18 cannot be cut",
    ),
    profiling("pruned backbone", "--backbone simpler_prithvi_eo_tiny", "pruned backbone already"),
    profiling("config missing", "--config task.yaml", "no config at task.yaml"),
    profiling(
        "config without a model",
        "--config task.yaml",
        "task.yaml is no TerraTorch task config: it has no model",
        prepare=text_config("trainer: {max_epochs: 1}\n"),
    ),
    profiling(
        "images of a config missing",
        "--config task.yaml --accelerator cpu",
        "cannot give its training images",
        "--size N profiles on random images",
        prepare=config(("train_data_root: tiles", "train_data_root: gone")),
    ),
    profiling("batch size 0", f"{TINY} --batch_size 0", "batch_size must be at least 1, got 0"),
    profiling("no rounds", f"{TINY} --rounds 0", "rounds must be at least 1, got 0"),
    profiling("size 0", f"{TINY} --size 0", "size must be at least 1, got 0"),
    profiling(
        "size that is no multiple of the patch",
        f"{TINY} --size 100",
        "patches of 16 px",
        "96 or 112, got 100",
    ),
    profiling(
        "size of a fixed position embedding",
        "--backbone timm_vit_tiny_patch16_224 --size 96 --accelerator cpu",
        "position embedding for 224 x 224 px",
        "img_size=96",
    ),
    profiling("unknown accelerator", f"{TINY} --accelerator abacus", "'abacus'", "auto, cpu, gpu"),
    profiling(
        "accelerator that is not there",
        f"{TINY} --accelerator gpu",
        "no accelerator 'gpu' on this machine",
        "choose one of auto, cpu",
        patch=no_gpu_for_fabric,
    ),
    profiling(
        "results in the output folder",
        TINY,
        "out/profile.png",
        "already there",
        "--overwrite",
        prepare=files_there("profile.png", "notes.txt"),
    ),
    profiling(
        "file in the place of the output folder",
        TINY,
        "cannot write to the folder out",
        prepare=file_as_output(OUTPUT),
    ),
    profiling(
        "disk full",
        f"{TINY} --rounds 1",
        "No space left",
        "nothing was left behind",
        patch=disk_full,
    ),
]
CASES = [*TILES, *CONFIGS, *BACKBONES, *OPTIONS, *RESULTS, *PROFILES]


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: the content of files, None for folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_mistake(
    case: Case,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    check(case, folder, monkeypatch, capfd)


def check(
    case: Case,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The mistake ends in status 2 and one line, and leaves nothing behind."""
    arguments = case.command()
    before = tree(folder)
    capfd.readouterr()
    if case.patch is not None:
        case.patch(monkeypatch)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    *others, message = capfd.readouterr().err.splitlines()
    assert message.startswith(PREFIX)
    assert all(line.startswith("warning: ") for line in others), others
    assert not [text for text in case.says if text not in message], message
    assert "Traceback" not in message
    assert tree(folder) == before


def test_no_two_cases_are_the_same() -> None:
    assert len({case.what for case in CASES}) == len(CASES)


@pytest.mark.parametrize("prepare", [with_tiles(), config()], ids=["backbone", "config"])
def test_the_commands_that_the_cases_change_work(prepare: Callable[[], Options]) -> None:
    main(command(prepare()))
    results = {path.name for path in Path(OUTPUT).iterdir()} - {"task_simpler.yaml"}
    assert results == {"plan.json", "report.html", "similarity.png", "scores.png"}


def test_weights_in_the_old_format_of_torch_are_read() -> None:
    def write(path: Path) -> None:
        from terratorch.registry import BACKBONE_REGISTRY

        weights = BACKBONE_REGISTRY.build("prithvi_eo_tiny", pretrained=False).state_dict()
        torch.save(weights, path, _use_new_zipfile_serialization=False)

    main(command(checkpoint(write, "prithvi_eo_tiny")()))
    assert json.loads(Path(OUTPUT, "plan.json").read_text())["backbone"]["pretrained"] is True


def test_the_command_ends_with_status_2_and_one_line() -> None:
    script = Path(sys.executable).with_name("terratorch-simpler")
    done = subprocess.run(
        [script, "select", "--config", "a.yaml", "--backbone", "b"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    said = "name either the config of a task (--config) or a backbone (--backbone)"
    assert done.stderr == f"{PREFIX}{said}\n"


def test_overwrite_replaces_results_and_nothing_else() -> None:
    files_there("plan.json", "notes.txt")()
    main(command({"overwrite": True}))
    assert json.loads(Path(OUTPUT, "plan.json").read_text())["schema_version"] == 1
    assert Path(OUTPUT, "notes.txt").read_text() == "kept"


def test_a_failed_overwrite_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    files_there("plan.json", "report.html")()
    disk_full(monkeypatch)
    with pytest.raises(SystemExit):
        main(command({"overwrite": True}))
    assert tree(Path(OUTPUT)) == {"plan.json": b"kept", "report.html": b"kept"}


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        (with_tiles(size=224), ValueError, "every scene is smaller than a chip"),
        (dict, FileNotFoundError, "no such folder or file of tiles"),
    ],
)
def test_debug_shows_where_it_happened(
    prepare: Callable[[], Options], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        main(command(prepare() | {"debug": True}))


# The depth and the plan of a config, as TerraTorch's registry is given them.


@pytest.fixture
def build() -> Callable[..., Any]:
    from terratorch.registry import BACKBONE_REGISTRY

    def build(**arguments: Any) -> Any:
        return BACKBONE_REGISTRY.build("simpler_prithvi_eo_tiny", pretrained=False, **arguments)

    return build


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (-1, "keep_blocks is -1, but this backbone has 4 blocks: choose from 1 to 4"),
        (5, "keep_blocks is 5, but this backbone has 4 blocks: choose from 1 to 4"),
        ([], r"keep_blocks must list whole numbers, got \[\]"),
        ([0, 0], r"keep_blocks \[0, 0\] must be sorted and without repeats"),
        ([2, 1], r"keep_blocks \[2, 1\] must be sorted and without repeats"),
        ([1, 4], r"keep_blocks \[1, 4\] names a block outside 0\.\.3"),
        ([-1], r"keep_blocks \[-1\] names a block outside 0\.\.3"),
        ([0, 1.5], r"keep_blocks must list whole numbers, got \[0, 1.5\]"),
        ("two", "keep_blocks must be a number or a list of block indices, got 'two'"),
    ],
)
def test_wrong_keep_blocks_in_a_config(build: Callable[..., Any], keep: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(keep_blocks=keep)


@pytest.fixture(scope="module")
def plan_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A plan for the backbone of ``build``."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(tmp_path_factory.mktemp("plan"))
        main(command(with_tiles()()))
        return Path(OUTPUT, "plan.json").read_text()


def edited(**changes: Any) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | changes)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda _text: "keep 3", "plan.json is not a plan: not JSON"),
        (lambda text: text[:200], "plan.json is not a plan: not JSON"),
        (lambda _text: "[1, 2]", "plan.json is not a plan: it has no schema_version"),
        (edited(schema_version=2), "plan.json has plan schema 2, .* upgrade terratorch-simpler"),
        (edited(depth=0), "plan.json is not a valid plan: depth is 0 but kept_blocks has"),
        (edited(kept_blocks=[1, 0]), "plan.json is not a valid plan: .* must be sorted"),
        (edited(total_depth=12), "plan.json is not a valid plan: total_depth is 12 but"),
        (edited(extra=1), "plan.json is not a valid plan: extra: "),
        (
            lambda text: text.replace('"prithvi_eo_tiny"', '"prithvi_eo_v2_300"'),
            "made for another backbone: prithvi_eo_v2_300 in the plan, prithvi_eo_tiny here",
        ),
    ],
    ids=[
        *("text", "cut off", "list", "newer schema", "contradicting depth", "unsorted blocks"),
        *("contradicting total", "unknown key", "another backbone"),
    ],
)
def test_wrong_plan_in_a_config(
    build: Callable[..., Any], plan_text: str, edit: Callable[[str], str], message: str
) -> None:
    Path("plan.json").write_text(plan_text)
    assert build(plan="plan.json").full_depth == 4
    Path("plan.json").write_text(edit(plan_text))
    with pytest.raises(ValueError, match=message):
        build(plan="plan.json")
