"""Every format of ``export``, of every family that can be pruned: what differs, and what it costs.

Random weights: what is measured is whether formats hold, how large they are and how fast. One tile
in a fresh process each, after one run that is not timed; the median of five.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from terratorch_simpler.exporting.checkpoint import read_checkpoint
from terratorch_simpler.exporting.export import write_format
from terratorch_simpler.exporting.formats import Format
from terratorch_simpler.exporting.measure import reference_output, size_mb
from terratorch_simpler.exporting.proof import largest_difference, run_fresh
from terratorch_simpler.exporting.source import Source, read_source

FORMATS: tuple[Format, ...] = ("terratorch", "safetensors", "onnx", "pt2", "vllm")
BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
Task = tuple[str, dict[str, Any]]
SEGMENT: Task = ("SemanticSegmentationTask", {"num_classes": 7})
REGRESS: Task = ("PixelwiseRegressionTask", {})
CLASSIFY: Task = ("ClassificationTask", {"num_classes": 10})
UNET = {
    "necks": [{"name": "ReshapeTokensToImage"}, {"name": "LearnedInterpolateToPyramidal"}],
    "decoder": "UNetDecoder",
    "decoder_channels": [128, 64, 32, 32],
}
MEAN = {"necks": [{"name": "AggregateTokens"}], "decoder": "IdentityDecoder"}
PICTURES: dict[str, Any] = {
    "necks": [{"name": "LearnedInterpolateToPyramidal"}],
    "decoder": "UNetDecoder",
    "decoder_channels": [128, 64, 32, 32],
}


def selecting(depth: int, model: dict[str, Any]) -> dict[str, Any]:
    """A model that takes four outputs over the full depth."""
    indices = [depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
    return {**model, "necks": [{"name": "SelectIndices", "indices": indices}, *model["necks"]]}


PRITHVI = {"backbone_bands": BANDS}
TWO = {"backbone_modalities": ["S2L2A", "S1GRD"], "backbone_merge_method": "mean"}
CASES: dict[str, tuple[str, int | list[int], Task, dict[str, Any]]] = {
    "Prithvi tiny, segmentation": (
        "prithvi_eo_v2_tiny_tl",
        5,
        SEGMENT,
        {**PRITHVI, **selecting(12, UNET)},
    ),
    "Prithvi tiny, blocks 0, 2 and 5, regression": (
        "prithvi_eo_v2_tiny_tl",
        [0, 2, 5],
        REGRESS,
        {**PRITHVI, **selecting(12, UNET)},
    ),
    "Prithvi tiny, classification": ("prithvi_eo_v2_tiny_tl", 5, CLASSIFY, {**PRITHVI, **MEAN}),
    "Prithvi 300M TL, segmentation": (
        "prithvi_eo_v2_300_tl",
        5,
        SEGMENT,
        {**PRITHVI, **selecting(24, UNET)},
    ),
    "TerraMind tiny, two modalities, segmentation": (
        "terramind_v1_tiny",
        4,
        SEGMENT,
        {
            **TWO,
            **selecting(12, UNET),
            "necks": [
                {"name": "SelectIndices", "indices": [2, 5, 8, 11]},
                {"name": "ReshapeTokensToImage", "remove_cls_token": False},
                {"name": "LearnedInterpolateToPyramidal"},
            ],
        },
    ),
    "DINOv2 ViT-S of timm, segmentation": (
        "timm_vit_small_patch14_dinov2",
        5,
        SEGMENT,
        {"backbone_img_size": 224, "backbone_out_indices": [2, 5, 8, 11], **PICTURES},
    ),
    "DOFA, segmentation": (
        "dofa_small_patch16_224",
        4,
        SEGMENT,
        {"backbone_model_bands": BANDS, "backbone_out_indices": [2, 5, 8, 11], **UNET},
    ),
}
"""Backbone, what is kept of it, task and what it takes, and the model."""


def save_checkpoint(
    path: Path, name: str, keep: int | list[int] | None, task: str, model_args: dict[str, Any]
) -> None:
    """Save a task of random weights as a Lightning trainer does."""
    import terratorch.tasks
    from lightning.pytorch import Trainer

    from terratorch_simpler import SimplerCallback
    from terratorch_simpler.lightning import quiet_lightning

    torch.manual_seed(0)
    depth = {} if keep is None else {"backbone_keep_blocks": keep}
    prefix = "" if keep is None else "simpler_"
    arguments = {"backbone": f"{prefix}{name}", "backbone_pretrained": False, **depth, **model_args}
    built = getattr(terratorch.tasks, task)(
        model_args=arguments, model_factory="EncoderDecoderFactory"
    )
    with quiet_lightning():
        trainer = Trainer(logger=False, accelerator="cpu", callbacks=[SimplerCallback()])
        trainer.strategy.connect(built)
        trainer.save_checkpoint(path)


def measure() -> Iterator[tuple[str, dict[str, Any]]]:
    """For every case and format: largest difference, MB, ms and peak MB, or why it is refused."""
    for case, (name, keep, (task, arguments), model_args) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.ckpt"
            save_checkpoint(path, name, keep, task, {**arguments, **model_args})
            source = read_source(read_checkpoint(path), None, False, None)
            reference = reference_output(source)
            found = {"checkpoint": _row("checkpoint", path, source, reference)}
            for to in FORMATS:
                out = Path(folder) / f"out-{to}.{to}"
                try:
                    write_format(source, to, out, None, None, False)
                    found[to] = _row(to, out, source, reference)
                except ValueError as error:
                    found[to] = {"refused": str(error)}
        yield case, found


def _row(kind: str, path: Path, source: Source, reference: Any) -> dict[str, Any]:
    proof = run_fresh(kind, path, source)
    return {
        "differs": largest_difference(proof.output, reference),
        "largest": float(abs(reference).max()),
        "mb": round(size_mb(path), 1),
        "ms": [round(one, 1) for one in sorted(proof.milliseconds)],
        "median_ms": round(statistics.median(proof.milliseconds), 1),
        "peak_mb": None if proof.peak_mb is None else round(proof.peak_mb),
    }
