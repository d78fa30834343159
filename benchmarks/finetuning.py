"""What a training step costs: the full backbone, LoRA on it, it cut, and LoRA on it cut."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.pruning import CHANNELS, KEEP, NAME, train_step, unet
from benchmarks.ratios import ratios

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
        "full": unet(NAME, CHANNELS[0]),
        "lora": unet(NAME, CHANNELS[0], peft_config=LORA),
        "simpler": unet(f"simpler_{NAME}", CHANNELS[0], keep_blocks=KEEP),
        "simpler_lora": unet(f"simpler_{NAME}", CHANNELS[0], keep_blocks=KEEP, peft_config=LORA),
    }
    images = torch.randn(2, 6, 224, 224)
    steps = {name: train_step(model.train(), images) for name, model in ways.items()}
    results: dict[str, Any] = {
        f"{name}_trainable_parameters": _trainable(model) for name, model in ways.items()
    }
    full = steps.pop("full")
    return results | {f"step_full_over_{name}": one for name, one in ratios(full, steps).items()}


def _trainable(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
