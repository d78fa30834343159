"""The patch embedding as a convolution and as one matrix product, side by side on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.ratios import ratio
from terratorch_simpler.backbones.patches import PatchConv2d, PatchConv3d

CASES: dict[str, tuple[int, int, tuple[int, ...], tuple[int, ...]]] = {
    "prithvi_eo_v2_300": (6, 1024, (1, 16, 16), (2, 6, 1, 224, 224)),
    "prithvi_eo_v2_600": (6, 1280, (1, 14, 14), (2, 6, 1, 224, 224)),
    "prithvi_eo_v2_100_tl_3_frames": (6, 768, (1, 16, 16), (2, 6, 3, 224, 224)),
    "vit_small_patch16_224": (3, 384, (16, 16), (2, 3, 224, 224)),
}
"""Bands, width and patch of a backbone, and the images that it reads."""


def measure() -> Iterator[tuple[str, dict[str, Any]]]:
    """For every case: convolution over product, and how far they differ.

    In 32 bits and under bf16 autocast, forward and with backward; compiled and exported likewise.
    """
    for case, (bands, width, patch, shape) in CASES.items():
        torch.manual_seed(0)
        kinds: Any = (nn.Conv3d, PatchConv3d) if len(patch) == 3 else (nn.Conv2d, PatchConv2d)
        convolution, product = (kind(bands, width, patch, stride=patch) for kind in kinds)
        product.load_state_dict(convolution.state_dict())
        product.always = True
        images = torch.randn(shape)
        found: dict[str, Any] = {}
        for name, context in (
            ("float32", contextlib.nullcontext),
            ("bf16", lambda: torch.autocast("cpu", torch.bfloat16)),
        ):
            slow, fast = (_forward(layer, images, context) for layer in (convolution, product))
            found[name] = ratio(slow, fast)
            steps = (_step(layer, images, context) for layer in (convolution, product))
            found[f"{name}_step"] = ratio(next(steps), next(steps))
            found[f"{name}_differs"] = _largest(slow(), fast())
        layers = (torch.compile(layer) for layer in (convolution, product))
        slow, fast = (_forward(layer, images, contextlib.nullcontext) for layer in layers)
        found["float32_compiled"] = ratio(slow, fast)
        found["compiled_differs"] = _largest(slow(), fast())
        exported = torch.export.export(product, (images,)).module()
        found["exported_differs"] = _largest(convolution(images), exported(images))
        yield case, found


def _forward(layer: Any, images: Tensor, context: Callable[[], Any]) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.inference_mode(), context():
            # As tokens, which is what a backbone makes of them.
            tokens: Tensor = layer(images).flatten(2).transpose(1, 2).contiguous()
            return tokens

    return run


def _step(layer: Any, images: Tensor, context: Callable[[], Any]) -> Callable[[], object]:
    def run() -> None:
        layer.zero_grad()
        with context():
            tokens = layer(images).flatten(2).transpose(1, 2)
        tokens.float().square().mean().backward()

    return run


def _largest(left: Tensor, right: Tensor) -> float:
    return float((left.float() - right.float()).abs().max())
