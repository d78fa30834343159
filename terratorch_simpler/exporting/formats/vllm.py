"""A folder that TerraTorch's plug-in of vLLM serves: ``config.json`` and weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from terratorch_simpler.exporting.formats.terratorch import class_path, plain_task
from terratorch_simpler.exporting.formats.whole import write_whole

if TYPE_CHECKING:
    from terratorch_simpler.exporting.source import Source

TASKS = ("segmentation", "regression")
"""Tasks that the plug-in serves."""
TARGET = "pixel_values"
"""What its requests call the one image."""


def write(source: Source, folder: Path) -> None:
    """Write ``config.json`` and ``model.pt``, as TerraTorch documents them for vLLM.

    Raises:
        ValueError: If the plug-in serves no such task, or as for the plain model.
    """
    if source.deployment.task not in TASKS:
        raise ValueError(
            f"TerraTorch serves {' and '.join(TASKS)} with vLLM, not {source.deployment.task}: "
            "export to onnx instead"
        )
    arguments, weights = plain_task(source)
    names = source.names or [TARGET]
    shapes = [list(tensor.shape[1:]) for tensor in source.inputs]
    reads: dict[str, Any] = {
        "data": {
            name: {"type": "torch.Tensor", "shape": shape}
            for name, shape in zip(names, shapes, strict=True)
        }
    }
    if source.names is None:
        reads["target"] = TARGET
    described: dict[str, Any] = {
        "input": reads,
        "model": {"class_path": class_path(source), "init_args": arguments},
    }
    if source.data is not None:
        described["data"] = dict(source.data)
    config = {"architectures": ["Terratorch"], "num_classes": 0, "pretrained_cfg": described}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_whole(folder / "model.pt", lambda file: torch.save({"state_dict": weights}, file))
    (folder / "preprocessing.json").write_text(source.deployment.to_json())
