"""The final norm of a cut backbone: dropped, or refitted to what the full depth gave."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from studies.samples import read, samples_of


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


def refitted(config: dict[str, Any], depth: int) -> dict[str, list[float]]:
    """Scale and shift by which a cut backbone's outputs look like those of the full depth.

    Args:
        config: Of the task, at full depth.
        depth: Blocks that are kept.

    Returns:
        Arguments of :class:`FinalNorm`: with them the mean and the spread of every channel, over
        the training tiles, are those of the full backbone's normalised output.
    """
    norm: Any = read(config).backbone.module.norm
    samples = samples_of(config)

    def moments(layer: int) -> tuple[Tensor, Tensor]:
        values = layer_norm(samples[:, layer].flatten(0, 1), norm.normalized_shape, eps=norm.eps)
        return values.mean(0), values.std(0)

    with torch.no_grad():
        (mean, spread), (mean_full, spread_full) = moments(depth), moments(-1)
        weight = norm.weight * spread_full / spread
        bias = norm.weight * mean_full + norm.bias - mean * weight
    return {"weight": weight.tolist(), "bias": bias.tolist()}
