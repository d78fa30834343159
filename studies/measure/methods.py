"""How a cell of a study is cut and trained: changes to a task's config, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Config = dict[str, Any]
Method = Callable[[Config, int, int], None]
"""Changes the config of a backbone with so many blocks so that so many are kept."""

FIRST = "first"
LORA = {
    "method": "LORA",
    "peft_config_kwargs": {"target_modules": ["attn.qkv"], "r": 8, "lora_alpha": 16},
}


def first(config: Config, total: int, depth: int) -> None:
    """Keep the first blocks, and fine-tune all weights."""
    if depth < total:
        _keep(config, depth)


def lora(config: Config, total: int, depth: int) -> None:
    """Keep the first blocks, and train LoRA on their attention, at the head's learning rate."""
    first(config, total, depth)
    arguments = config["model"]["init_args"]
    arguments["model_args"]["peft_config"] = LORA
    arguments.pop("lr_overrides", None)


def frozen(config: Config, total: int, depth: int) -> None:
    """Keep the first blocks as they are, and train the head alone."""
    first(config, total, depth)
    arguments = config["model"]["init_args"]
    arguments["freeze_backbone"] = True
    arguments.pop("lr_overrides", None)


def block_influence(config: Config, total: int, depth: int) -> None:
    """Keep the blocks that change their input most (ShortGPT)."""
    _keep_best(config, "block_influence", depth)


def angular_distance(config: Config, total: int, depth: int) -> None:
    """Remove the run of blocks that turns its input least (Gromov et al.)."""
    _keep_best(config, "angular_distance", depth)


def norm_dropped(config: Config, total: int, depth: int) -> None:
    """Keep the first blocks without the final norm."""
    first(config, total, depth)
    _add_callback(config, "FinalNorm", {})


def norm_refitted(config: Config, total: int, depth: int) -> None:
    """Keep the first blocks, with the final norm fitted to them."""
    from studies.measure.norms import refitted

    arguments = refitted(config, depth)
    first(config, total, depth)
    _add_callback(config, "FinalNorm", arguments)


def linear(config: Config, total: int, depth: int) -> None:
    """Keep the first blocks, under a linear head in place of the task's decoder."""
    first(config, total, depth)
    arguments = config["model"]["init_args"]["model_args"]
    for key in [key for key in arguments if key.startswith("decoder_")]:
        del arguments[key]
    arguments["decoder"] = "IdentityDecoder"


def linear_refitted(config: Config, total: int, depth: int) -> None:
    """As ``linear``, with outputs of the full depth's means and spreads."""
    from studies.measure.norms import refitted

    arguments = refitted(config, depth)
    linear(config, total, depth)
    _add_callback(config, "LastOutput", arguments)


def _keep(config: Config, blocks: int | list[int]) -> None:
    arguments = config["model"]["init_args"]["model_args"]
    arguments["backbone"] = f"simpler_{arguments['backbone']}"
    arguments["backbone_keep_blocks"] = blocks


def _keep_best(config: Config, criterion: str, depth: int) -> None:
    from studies.measure.samples import blocks_of

    _keep(config, blocks_of(config, criterion, depth))


def _add_callback(config: Config, name: str, arguments: dict[str, Any]) -> None:
    callback = {"class_path": f"studies.measure.norms.{name}", "init_args": arguments}
    config["trainer"].setdefault("callbacks", []).append(callback)


METHODS: dict[str, Method] = {
    FIRST: first,
    "lora": lora,
    "frozen": frozen,
    "block_influence": block_influence,
    "angular_distance": angular_distance,
    "norm_dropped": norm_dropped,
    "norm_refitted": norm_refitted,
    "linear": linear,
    "linear_refitted": linear_refitted,
}
