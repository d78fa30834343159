"""Which necks and decoders leave a cut worth having: a full model against a third of its blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.ratios import ratio
from terratorch_simpler.profiling.profiled import ProfiledModel, profiled_task_model
from terratorch_simpler.profiling.runs import Example, inference, training_step
from terratorch_simpler.profiling.share import count_share

SIZE, CLASSES = 224, 7
TIMED = 384
"""Channels of those that are timed; ``pruning`` times the largest."""
BACKBONES: dict[int, tuple[str, int, dict[str, Any], bool]] = {
    384: ("terramind_v1_small", 12, {"backbone_modalities": ["S2L2A"]}, False),
    768: ("prithvi_eo_v2_100_tl", 12, {}, True),
    1024: ("prithvi_eo_v2_300", 24, {}, True),
}
"""By channels: a backbone, its blocks, its arguments, and whether it has a class token."""
DECODERS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "UNet 512": ("UNetDecoder", True, {"decoder_channels": [512, 256, 128, 64]}),
    "UNet 256": ("UNetDecoder", True, {"decoder_channels": [256, 128, 64, 32]}),
    "UperNet 256": ("UperNetDecoder", True, {"decoder_channels": 256}),
    "FCN 256": ("FCNDecoder", False, {"decoder_channels": 256, "decoder_num_convs": 4}),
    "MLP": ("MLPDecoder", False, {}),
    "Linear": (
        "LinearDecoder",
        False,
        {"decoder_upsampling_size": 16, "decoder_num_classes": CLASSES},
    ),
    "Identity": ("IdentityDecoder", False, {}),
}
"""By name: a decoder, whether it wants a pyramid of four layers, and its arguments.

ASPPHead is missing: the factory gives it the widths of the layers as its dilations.
"""


def measure() -> Iterator[tuple[str, dict[str, Any]]]:
    """For every width and decoder: share of the blocks, and what a third of them makes faster.

    In FLOPs, and for the smallest width in time as well.
    """
    for channels in BACKBONES:
        for decoder in DECODERS:
            torch.manual_seed(0)
            yield f"{channels} {decoder}", _measure(channels, decoder)


def _measure(channels: int, decoder: str) -> dict[str, Any]:
    profiled = profiled_task_model(build(channels, decoder), None)
    depth = profiled.backbone.depth
    image = torch.randn(1, 12 if channels == 384 else 6, SIZE, SIZE)
    counted = count(profiled, (image, {}))
    if channels != TIMED:
        return counted
    # Weights keep their values: an update costs next to nothing beside what is measured.
    optimizer = torch.optim.SGD(profiled.whole.parameters(), lr=0.0)
    # A batch norm of one pixel needs two images.
    pair = torch.cat([image, image])

    def infer(kept: int) -> None:
        inference(profiled.pruned(kept), (image, {}))()

    def step(kept: int) -> None:
        training_step(profiled.pruned(kept), (pair, {}), optimizer)()

    return counted | {
        "blocks_of_inference": _share(profiled, partial(infer, depth)),
        "inference": ratio(partial(infer, depth), partial(infer, depth // 3)),
        "step": ratio(partial(step, depth), partial(step, depth // 3)),
    }


def count(profiled: ProfiledModel, example: Example) -> dict[str, Any]:
    """Share of the blocks in the FLOPs of a forward pass, and how many times fewer a third has."""
    share = count_share(profiled, example)
    third = range(profiled.backbone.depth // 3)
    return {
        "blocks_of_flops": round(sum(share.blocks) / share.total, 2),
        "flops": round(share.total / share.left(third), 2),
    }


def build(channels: int, decoder: str) -> nn.Module:
    """A segmentation model of random weights."""
    from terratorch.models import EncoderDecoderFactory

    backbone, depth, arguments, special = BACKBONES[channels]
    kind, pyramid, own = DECODERS[decoder]
    layers = [depth * part // 4 - 1 for part in range(1, 5)] if pyramid else [depth - 1]
    model: nn.Module = EncoderDecoderFactory().build_model(
        task="segmentation",
        backbone=backbone,
        backbone_pretrained=False,
        necks=[
            {"name": "SelectIndices", "indices": layers},
            {"name": "ReshapeTokensToImage", "remove_cls_token": special},
            *([{"name": "LearnedInterpolateToPyramidal"}] if pyramid else []),
        ],
        decoder=kind,
        num_classes=CLASSES,
        **arguments,
        **own,
    )
    return model


def _share(profiled: ProfiledModel, run: Callable[[], object]) -> float:
    """Share of the time of a forward pass that goes into the blocks, by hooks."""
    spent = {"blocks": 0.0, "model": 0.0}
    handles = []
    parts: list[tuple[str, nn.Module]] = [("blocks", one) for one in profiled.backbone.block_list]
    parts.append(("model", profiled.whole))
    for name, part in parts:

        def enter(*_: object, name: str = name) -> None:
            spent[name] -= time.perf_counter()

        def leave(*_: object, name: str = name) -> None:
            spent[name] += time.perf_counter()

        handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    run()
    for handle in handles:
        handle.remove()
    return round(spent["blocks"] / spent["model"], 2)
