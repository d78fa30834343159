"""Tiny exported models, and scenes for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from terratorch_simpler.results.deployment import METADATA_KEY, Deployment, ModelInput, ModelOutput
from tests.rasters import BANDS


def deployment(
    task: Any = "segmentation",
    bands: Sequence[str] | None = BANDS,
    classes: int = 3,
    size: int = 32,
    **changes: Any,
) -> Deployment:
    """What a model of one input says of itself: its normalisation changes nothing."""
    channels = changes.pop("channels", len(bands or BANDS))
    image = ModelInput(
        name="image",
        bands=None if bands is None else tuple(bands),
        channels=channels,
        frames=changes.pop("frames", None),
        height=size,
        width=size,
        means=changes.pop("means", None),
        stds=changes.pop("stds", None),
    )
    values: dict[str, Any] = {
        "task": task,
        "inputs": (image,),
        "no_data": None,
        "no_data_replace": None,
        "output": ModelOutput(name="output", classes=None, channels=classes),
        "dynamic_size": False,
        "model": None,
        "made_by": {"terratorch-simpler": "0.1.0"},
    }
    return Deployment(**values | changes)


def weights(outputs: int, inputs: int, kernel: int = 1, seed: int = 0) -> Any:
    """Seeded weights of a convolution: [outputs, inputs, kernel, kernel]."""
    random = np.random.default_rng(seed)
    return random.normal(0, 1, (outputs, inputs, kernel, kernel)).astype(np.float32)


def write_model(
    path: Path,
    record: Deployment | None,
    *,
    kernel: int = 1,
    metadata: str | None = None,
    batch: int | str = "batch",
    seed: int = 0,
) -> Path:
    """Write a convolution over all bands as an ONNX file, with a record of what it expects.

    Args:
        path: The file.
        record: What it says of itself; None for a file that says nothing.
        kernel: Side of the convolution; more than 1 reads zeros beyond a window.
        metadata: Text in the place of the record.
        batch: Size of a batch, or its name where any goes.
        seed: Of the weights.
    """
    said = record or deployment()
    entries, nodes = [], []
    channels = 0
    for entry in said.inputs:
        times = [] if entry.frames is None else [entry.frames]
        sides = ["height", "width"] if said.dynamic_size else [entry.height, entry.width]
        shape = [batch, entry.channels, *times, *sides]
        entries.append(helper.make_tensor_value_info(entry.name, TensorProto.FLOAT, shape))
        channels += entry.channels
    feed = said.inputs[0].name
    if said.inputs[0].frames is not None:
        nodes.append(helper.make_node("ReduceSum", [feed, "time"], ["stacked"], keepdims=0))
        feed = "stacked"
    elif len(entries) > 1:
        names = [entry.name for entry in said.inputs]
        nodes.append(helper.make_node("Concat", names, ["stacked"], axis=1))
        feed = "stacked"
    kernels = weights(said.output.channels, channels, kernel, seed)
    regression = said.task == "regression"
    convolved = "convolved" if regression else said.output.name
    pads = [kernel // 2] * 4
    nodes.append(helper.make_node("Conv", [feed, "weights"], [convolved], pads=pads))
    if regression:
        nodes.append(helper.make_node("Squeeze", [convolved, "one"], [said.output.name]))
    output = helper.make_tensor_value_info(said.output.name, TensorProto.FLOAT, None)
    graph = helper.make_graph(
        nodes,
        "tiny",
        entries,
        [output],
        [
            numpy_helper.from_array(kernels, "weights"),
            numpy_helper.from_array(np.array([2]), "time"),
            numpy_helper.from_array(np.array([1]), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if record is not None or metadata is not None:
        text = metadata if metadata is not None else said.to_json()
        helper.set_model_props(model, {METADATA_KEY: text})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path
