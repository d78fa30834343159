"""Seconds a megapixel of a map: full and pruned, TerraTorch with torch, ``predict`` with ONNX.

One scene of 1,000 x 1,000 px, windows of 224 px as TerraTorch's tiled inference has them, in
batches of four. All ways take turns, three times; reading and writing count for ``predict``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin

from benchmarks.exports import PRITHVI, UNET, save_checkpoint, selecting
from terratorch_simpler.exporting.checkpoint import read_checkpoint
from terratorch_simpler.exporting.formats import onnx
from terratorch_simpler.exporting.source import Source, read_source

NAME, KEEP = "prithvi_eo_v2_tiny_tl", 4
SIDE, ROUNDS, BATCH = 1000, 3, 4
MODEL: dict[str, Any] = {**PRITHVI, **selecting(12, UNET), "num_classes": 7}


def measure() -> Iterator[tuple[str, dict[str, Any]]]:
    """Seconds a megapixel of every way, each round, and how far maps differ from TerraTorch's."""
    with tempfile.TemporaryDirectory() as folder:
        scene = _scene(Path(folder) / "scene.tif")
        ways: dict[str, Callable[[], None]] = {}
        for depth, keep in (("full", None), ("pruned", KEEP)):
            path = Path(folder) / f"{depth}.ckpt"
            save_checkpoint(path, NAME, keep, "SemanticSegmentationTask", MODEL)
            source = read_source(read_checkpoint(path), None, False, None)
            ways[f"{depth}, torch"] = _by_terratorch(source, scene)
            for kind, quantize in (("onnx", None), ("int8", "int8")):
                model = Path(folder) / f"{depth}-{kind}.onnx"
                onnx.write(source, model, quantize=quantize)  # type: ignore[arg-type]
                ways[f"{depth}, {kind}"] = _by_predict(model, scene, model.with_suffix(".tif"))
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, run in ways.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
        megapixels = SIDE * SIDE / 1e6
        for name, taken in seconds.items():
            yield name, {"seconds_a_megapixel": [round(one / megapixels, 2) for one in taken]}


def _scene(path: Path) -> Path:
    """A scene of random pixels, normalised already."""
    pixels = np.random.default_rng(0).normal(size=(6, SIDE, SIDE)).astype("float32")
    profile = {"driver": "GTiff", "count": 6, "height": SIDE, "width": SIDE, "dtype": "float32"}
    place = {"crs": "EPSG:32633", "transform": from_origin(4e5, 58e5, 10, 10)}
    with rasterio.open(path, "w", tiled=True, **profile, **place) as raster:
        raster.write(pixels)
    return path


def _by_terratorch(source: Source, scene: Path) -> Callable[[], None]:
    from terratorch.tasks.tiled_inference import tiled_inference

    model: Any = source.model

    def run() -> None:
        with rasterio.open(scene) as raster:
            image = torch.from_numpy(raster.read())[None]
        with torch.inference_mode():
            tiled_inference(lambda tiles: model(tiles).output, image, batch_size=BATCH)

    return run


def _by_predict(model: Path, scene: Path, out: Path) -> Callable[[], None]:
    from terratorch_simpler.cli import main

    words = ["predict", str(model), str(scene), "--output", str(out), "--overwrite", "--quiet"]
    return lambda: main([*words, "--batch_size", str(BATCH)])
