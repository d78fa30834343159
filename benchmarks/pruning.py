"""What pruning Prithvi-EO-2 300M to 5 of 24 blocks saves, at 224 px in batches of 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import terratorch_simpler as simpler
from benchmarks.ratios import ratio
from terratorch_simpler.backbones.backbone import count_parameters

NAME, KEEP = "prithvi_eo_v2_300", 5
CHANNELS = ([256, 128, 64, 32], [512, 256, 128, 64])
"""Of the decoder, which stays as it is: the wider it is, the less of the time is the encoder's."""


def measure() -> dict[str, Any]:
    """Ratios full over pruned: encoder, inference and training with a UNet decoder."""
    from terratorch.registry import BACKBONE_REGISTRY

    full = BACKBONE_REGISTRY.build(NAME, pretrained=False).eval()
    pruned = simpler.prune(full, KEEP)
    images = torch.randn(2, 6, 224, 224)
    results: dict[str, Any] = {
        "parameters_full": count_parameters(full),
        "parameters_pruned": count_parameters(pruned),
        "encoder": ratio(_infer(full, images), _infer(pruned, images)),
    }
    del full, pruned
    for channels in CHANNELS:
        tasks = [unet(NAME, channels), unet(f"simpler_{NAME}", channels, keep_blocks=KEEP)]
        slow, fast = (_infer(task.eval(), images) for task in tasks)
        results[f"unet_{channels[0]}_inference"] = ratio(slow, fast)
        slow, fast = (train_step(task.train(), images) for task in tasks)
        results[f"unet_{channels[0]}_training"] = ratio(slow, fast)
    return results


def unet(
    backbone: str,
    channels: list[int],
    peft_config: dict[str, Any] | None = None,
    indices: Sequence[int] = (5, 11, 17, 23),
    **arguments: Any,
) -> nn.Module:
    """A segmentation model with random weights, whose decoder reads four layers."""
    from terratorch.models import EncoderDecoderFactory

    model: nn.Module = EncoderDecoderFactory().build_model(
        task="segmentation",
        backbone=backbone,
        backbone_kwargs={"pretrained": False, **arguments},
        necks=[
            {"name": "SelectIndices", "indices": list(indices)},
            {"name": "ReshapeTokensToImage"},
            {"name": "LearnedInterpolateToPyramidal"},
        ],
        decoder="UNetDecoder",
        decoder_channels=channels,
        num_classes=7,
        peft_config=peft_config,
    )
    return model


def _infer(model: nn.Module, images: Tensor) -> Callable[[], object]:
    @torch.inference_mode()
    def run() -> object:
        return model(images)

    return run


def train_step(model: nn.Module, images: Tensor) -> Callable[[], object]:
    """A training step of what can be trained."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4)
    labels = torch.randint(7, (len(images), *images.shape[-2:]))

    def run() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images).output, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return run
