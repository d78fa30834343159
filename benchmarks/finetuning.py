"""What a training step costs: the full backbone, LoRA on it, it cut, and LoRA on it cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import terratorch_simpler  # noqa: F401 - registers the pruned backbones
from benchmarks.ratios import ratio

NAME, KEEP = "prithvi_eo_v2_300", 5
LORA = {
    "method": "LORA",
    # TerraTorch splits the joint projection, so that query and value get matrices of their own.
    "replace_qkv": "qkv",
    "peft_config_kwargs": {
        "r": 16,
        "lora_alpha": 32,
        "target_modules": ["qkv.q_linear", "qkv.v_linear"],
    },
}


def measure() -> dict[str, Any]:
    """Trainable parameters of each way, and how much slower a step of full fine-tuning is."""
    ways = {
        "full": _model(NAME),
        "lora": _model(NAME, peft_config=LORA),
        "simpler": _model(f"simpler_{NAME}", keep_blocks=KEEP),
        "simpler_lora": _model(f"simpler_{NAME}", keep_blocks=KEEP, peft_config=LORA),
    }
    images = torch.randn(2, 6, 224, 224)
    steps = {name: _step(model, images) for name, model in ways.items()}
    results: dict[str, Any] = {
        f"{name}_trainable_parameters": _trainable(model) for name, model in ways.items()
    }
    for name in ("lora", "simpler", "simpler_lora"):
        results[f"step_full_over_{name}"] = ratio(steps["full"], steps[name])
    return results


def _model(backbone: str, peft_config: dict[str, Any] | None = None, **arguments: Any) -> nn.Module:
    from terratorch.models import EncoderDecoderFactory

    model: nn.Module = EncoderDecoderFactory().build_model(
        task="segmentation",
        backbone=backbone,
        backbone_kwargs={"pretrained": False, **arguments},
        necks=[
            {"name": "SelectIndices", "indices": [5, 11, 17, 23]},
            {"name": "ReshapeTokensToImage"},
            {"name": "LearnedInterpolateToPyramidal"},
        ],
        decoder="UNetDecoder",
        decoder_channels=[256, 128, 64, 32],
        num_classes=7,
        peft_config=peft_config,
    )
    return model.train()


def _trainable(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def _step(model: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4)
    labels = torch.randint(7, (len(images), *images.shape[-2:]))

    def run() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images).output, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return run
