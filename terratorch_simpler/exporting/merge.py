"""A task without adapters: what LoRA learnt goes into the weights that it stands beside."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from terratorch_simpler.exporting.checkpoint import SavedTask
from terratorch_simpler.messages import one_line

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

PEFT = "peft_config"
"""Argument of TerraTorch's factory that asks for adapters."""


def merged(saved: SavedTask, task: LightningModule, merge: bool) -> SavedTask:
    """The checkpoint without adapters, which go into the weights of the task, in place.

    Args:
        saved: The checkpoint.
        task: The task that was built of it.
        merge: Whether the user asks for it.

    Raises:
        ValueError: If the user does not, or the adapters are of a kind that cannot be merged.
    """
    if not merge:
        raise ValueError(
            f"{saved.path} holds adapters of peft beside the weights (peft_config): --merge writes "
            "them into the weights"
        )
    model: Any = task.model
    try:
        model.encoder = model.encoder.merge_and_unload()
    except (AttributeError, NotImplementedError, ValueError) as error:
        raise ValueError(
            f"the adapters of {saved.path} cannot be merged: {one_line(error)}"
        ) from error
    _join_qkv(model.encoder)
    arguments = {key: value for key, value in saved.model_args.items() if key != PEFT}
    parameters = {**saved.hyper_parameters, "model_args": arguments}
    return replace(saved, hyper_parameters=parameters, state_dict=task.state_dict())


def _join_qkv(model: nn.Module) -> None:
    """Make one layer again of queries, keys and values, which TerraTorch takes apart for LoRA."""
    from terratorch.models.peft_utils import QKVSep

    parts = [(name, one) for name, one in model.named_modules() if isinstance(one, QKVSep)]
    for name, part in parts:
        layers = (part.q_linear, part.k_linear, part.v_linear)
        # Typed as if there always were one.
        biases = [bias for layer in layers if (bias := getattr(layer, "bias", None)) is not None]
        joined = nn.Linear(part.in_features, part.out_features, bias=bool(biases))
        with torch.no_grad():
            joined.weight.copy_(torch.cat([layer.weight for layer in layers]))
            if biases:
                joined.bias.copy_(torch.cat(biases))
        model.set_submodule(name, joined)
