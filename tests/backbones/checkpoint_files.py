"""Files of weights as people have them, of a tiny Prithvi, with what TerraTorch makes of each."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.conftest import TINY
from tests.rasters import truncate

SIZES = {"img_size": 32, "depth": 3, "embed_dim": 48}
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class File:
    """A file of weights.

    Attributes:
        what: What it is.
        write: Writes it, given where and the weights of a model; a dict that it returns are those
            that it really holds.
        said: What a message about it has to say; empty where TerraTorch loads the weights.
        name: Its name.
    """

    what: str
    write: Callable[[Path, Weights], object]
    said: tuple[str, ...] = ()
    name: str = "weights.pt"

    def __str__(self) -> str:
        return self.what


def tiny(**sizes: int) -> nn.Module:
    """A Prithvi for these files."""
    from terratorch.registry import BACKBONE_REGISTRY

    model: nn.Module = BACKBONE_REGISTRY.build(TINY, pretrained=False, **(SIZES | sizes))
    return model


def shuffled(model: nn.Module, seed: int = 1) -> Weights:
    """Weights for a model, none of which a new one has."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator)
        for name, value in model.state_dict().items()
    }


def content(make: Callable[[Weights], object]) -> Callable[[Path, Weights], None]:
    """Saves what is made of the weights."""
    return lambda path, weights: torch.save(make(weights), path)


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {f"{prefix}{name}": value for name, value in weights.items()}


def as_mae(weights: Weights) -> Weights:
    decoder = {"decoder.decoder_embed.weight": torch.zeros(3), "decoder.mask_token": torch.zeros(3)}
    return prefixed("encoder.", weights) | decoder


def lightning(weights: Weights) -> dict[str, Any]:
    """A checkpoint of a task, as Lightning saves it."""
    head = {"model.head.head.2.weight": torch.zeros(2, 48)}
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": prefixed("model.encoder.", weights) | head,
        "loops": {"fit_loop": {"state_dict": {}}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
        "hyper_parameters": {"model_args": {"backbone": TINY, "backbone_pretrained": True}},
    }


def student_and_teacher(path: Path, weights: Weights) -> None:
    """Two of the model: TerraTorch takes the first."""
    teacher = {name: -value for name, value in weights.items()}
    torch.save(prefixed("student.", weights) | prefixed("teacher.", teacher), path)


def lora(path: Path, weights: Weights, *, merge: bool) -> Weights | None:
    """Weights with LoRA, as peft makes it; merged ones differ from those that it began with."""
    from peft import LoraConfig, get_peft_model

    model: Any = tiny()
    model.load_state_dict(weights)
    config = LoraConfig(r=2, target_modules=["qkv"], init_lora_weights=False)
    adapted: Any = get_peft_model(model, config)
    if not merge:
        torch.save(adapted.state_dict(), path)
        return None
    merged: Weights = adapted.merge_and_unload().state_dict()
    torch.save(merged, path)
    return merged


def halved(dtype: torch.dtype) -> Callable[[Path, Weights], Weights]:
    def write(path: Path, weights: Weights) -> Weights:
        held = {name: value.to(dtype) for name, value in weights.items()}
        torch.save(held, path)
        return {name: value.float() for name, value in held.items()}

    return write


def other(**sizes: int) -> Callable[[Path, Weights], Weights]:
    """A file of the same model in other sizes."""

    def write(path: Path, weights: Weights) -> Weights:
        del weights
        held = shuffled(tiny(**sizes))
        torch.save(held, path)
        return held

    return write


def safetensors(path: Path, weights: Weights) -> None:
    from safetensors.torch import save_file

    save_file(weights, path)


def script(path: Path, weights: Weights) -> None:
    del weights
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


OPTIMIZER = {"optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(3)}}}}


def old(path: Path, content: Mapping[str, object]) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def truncated(path: Path, weights: Weights) -> None:
    torch.save(weights, path)
    truncate(path)


NAMESPACE = ("argparse.Namespace", "save its weights alone")
NO_FILE = ("is no file of weights, or is damaged",)

FILES = [
    File("plain", content(dict)),
    File("old format", old),
    File("safetensors", safetensors, name="weights.safetensors"),
    File("safetensors by another name", safetensors, ("let its name end in .safetensors",)),
    File("bfloat16", halved(torch.bfloat16)),
    File("float16", halved(torch.float16)),
    File("prefix of DDP", content(partial(prefixed, "module."))),
    File("prefix of torch.compile", content(partial(prefixed, "_orig_mod."))),
    File("both prefixes", content(partial(prefixed, "module._orig_mod."))),
    File("prefix of old checkpoints", content(partial(prefixed, "_timm_module."))),
    File("student and teacher", student_and_teacher),
    File("below state_dict", content(lambda w: {"epoch": 3, "state_dict": w})),
    File("below model_state_dict", content(lambda w: {"model_state_dict": w} | OPTIMIZER)),
    File(
        "optimizer_state_dict first",
        content(lambda w: OPTIMIZER | {"model_state_dict": w}),
        ("in ['model_state_dict'], where TerraTorch does not look",),
    ),
    File("below model", content(lambda w: {"model": w}), ("in ['model'], where",)),
    File(
        "below two keys",
        content(lambda w: {"state_dict": {"net": w}}),
        ("in ['state_dict']['net'], where",),
    ),
    File("Lightning", content(lightning)),
    File(
        "Lightning with a path",
        content(lambda w: lightning(w) | {"hyper_parameters": {"root": Path("a")}}),
        ("pathlib", "save its weights alone"),
    ),
    File(
        "Namespace beside",
        content(lambda w: {"state_dict": w, "args": argparse.Namespace(lr=0.1)}),
        NAMESPACE,
    ),
    File(
        "Namespace in the old format",
        lambda path, w: old(path, {"model": w, "args": argparse.Namespace(lr=0.1)}),
        NAMESPACE,
    ),
    File(
        "numpy", content(lambda w: {key: w[key].numpy() for key in w}), ("refuses to load (numpy.",)
    ),
    File("whole module", content(lambda w: nn.ModuleDict()), ("container.ModuleDict)",)),
    File("TorchScript", script, NO_FILE),
    File("tensor", content(lambda w: w["norm.weight"]), ("holds a Tensor, not weights by name",)),
    File("no weights", content(lambda w: {"epoch": 3}), ("no weights by name, only 'epoch'",)),
    File("no keys", content(lambda w: {}), ("holds no weights by name",)),
    File("masked autoencoder", content(as_mae)),
    File("masked autoencoder below state_dict", content(lambda w: {"state_dict": as_mae(w)})),
    File(
        "LoRA",
        partial(lora, merge=False),
        ("6 of 36 block weights", "first is blocks.0.attn.qkv.weight", "LoRA", "merge them first"),
    ),
    File("LoRA merged", partial(lora, merge=True)),
    File("deeper", other(depth=5)),
    File("shallower", other(depth=2), ("12 of 36 block weights", "first is blocks.2.norm1.weight")),
    File("wider", other(embed_dim=96), ("could not be built with", "size mismatch")),
    File("for other tiles", other(img_size=64)),
    File(
        "without a block",
        content(lambda w: {key: w[key] for key in w if ".1." not in key}),
        ("12 of 36 block weights", "first is blocks.1.norm1.weight"),
    ),
    File(
        "renamed blocks",
        content(lambda w: {key.replace("blocks", "layers"): w[key] for key in w}),
        ("36 of 36 block weights", "first is blocks.0.norm1.weight"),
    ),
    File(
        "without the patch embedding",
        content(lambda w: {key: w[key] for key in w if "patch_embed" not in key}),
        ("could not be built with", "patch embed weight"),
    ),
    File("truncated", truncated, NO_FILE),
    File("pointer of Git LFS", lambda path, w: path.write_text("version https://git-lfs"), NO_FILE),
    File("empty", lambda path, w: path.write_bytes(b""), NO_FILE),
    File("folder", lambda path, w: path.mkdir(), ("no checkpoint at", "but a folder")),
    File("not there", lambda path, w: None, ("no checkpoint at",)),
]
"""Every kind of file, for Prithvi."""
