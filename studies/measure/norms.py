"""The last output of a cut backbone: without its final norm, or made like the full depth's."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from studies.measure.samples import read, samples_of


class FinalNorm(Callback):
    """Changes the final norm of the encoder before it is trained.

    Args:
        weight: What its scale becomes, one a channel; None drops the norm.
        bias: What its shift becomes, likewise.
    """

    def __init__(self, weight: list[float] | None = None, bias: list[float] | None = None) -> None:
        self.weight, self.bias = weight, bias

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Change it, ahead of the optimiser."""
        if stage != "fit":
            return
        model: Any = pl_module.model
        encoder = model.encoder
        if self.weight is None:
            encoder.norm = nn.Identity()
        else:
            with torch.no_grad():
                encoder.norm.weight.copy_(torch.tensor(self.weight))
                encoder.norm.bias.copy_(torch.tensor(self.bias))


class LastOutput(Callback):
    """Scales and shifts the channels of the encoder's last output, an image, by fixed numbers.

    For backbones that put no norm on it, such as timm's.
    """

    def __init__(self, weight: list[float], bias: list[float]) -> None:
        self.weight, self.bias = torch.tensor(weight), torch.tensor(bias)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put it behind the encoder, once."""
        if stage == "fit":
            model: Any = pl_module.model
            model.encoder.register_forward_hook(self._change)

    def _change(self, _module: nn.Module, _inputs: Any, outputs: list[Tensor]) -> list[Tensor]:
        last = outputs[-1]
        weight, bias = (v.to(last)[:, None, None] for v in (self.weight, self.bias))
        return [*outputs[:-1], last * weight + bias]


def refitted(config: dict[str, Any], depth: int) -> dict[str, list[float]]:
    """Scale and shift by which a cut backbone's outputs look like those of the full depth.

    Args:
        config: Of the task, at full depth.
        depth: Blocks that are kept.

    Returns:
        Arguments of :class:`FinalNorm`, or of :class:`LastOutput` where the backbone has no final
        norm: with them the mean and the spread of every channel, over the training tiles, are
        those of the full backbone's last output.
    """
    task = read(config)
    norm: Any = getattr(task.backbone.module, "norm", None)
    samples = samples_of(task)
    kept, full = samples[:, depth].flatten(0, 1), samples[:, -1].flatten(0, 1)
    with torch.no_grad():
        if isinstance(norm, nn.LayerNorm):
            kept = layer_norm(kept, norm.normalized_shape, eps=norm.eps)
            full = norm(full)
        weight = full.std(0) / kept.std(0)
        bias = full.mean(0) - kept.mean(0) * weight
    return {"weight": weight.tolist(), "bias": bias.tolist()}
