"""What TerraTorch loads, we load; what it does not load, we refuse with the true reason."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from terratorch_simpler.backbones.backbone import load_backbone
from tests.backbones.checkpoint_files import (
    FILES,
    SIZES,
    File,
    Weights,
    content,
    halved,
    prefixed,
    safetensors,
    shuffled,
)
from tests.conftest import TINY

BLOCKS = {"img_size": 32, "depth": 3, "embed_dim": 48, "num_heads": 3}


@dataclass(frozen=True)
class Model:
    """A backbone that takes a file of weights.

    Attributes:
        name: Its registry name.
        blocks: Where its blocks are.
        stored: What of it a file holds, as TerraTorch wants one; all of it by default.
        argument: What names the file.
        arguments: What it is built with otherwise.
    """

    name: str
    blocks: str
    stored: str = ""
    argument: str = "ckpt_path"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}-{self.argument}"

    def build(self, build: Callable[..., nn.Module], file: Path | None) -> nn.Module:
        """Built with a file, or without weights."""
        if file is None:
            return build(self.name, **{**self.arguments, "pretrained": False})
        overlaid = self.argument == "pretrained_cfg_overlay"
        value = {"file": str(file)} if overlaid else str(file)
        return build(self.name, **{self.argument: value}, **self.arguments)

    def has(self, built: nn.Module, weights: Weights) -> bool:
        """Whether the blocks of one that was built have exactly these weights."""
        path = self.blocks.removeprefix(self.stored and f"{self.stored}.")
        blocks = built.get_submodule(self.blocks).named_parameters()
        return all(
            torch.equal(value, weights.get(f"{path}.{name}", torch.empty(0)))
            for name, value in blocks
        )


def by_terratorch(name: str, **arguments: Any) -> nn.Module:
    from terratorch.registry import BACKBONE_REGISTRY

    built: nn.Module = BACKBONE_REGISTRY.build(name, **arguments)
    return built


def by_us(name: str, **arguments: Any) -> nn.Module:
    return load_backbone(name, **arguments).module


def check(model: Model, file: File, folder: Path) -> None:
    """Build with a file in both ways, and compare what comes of it."""
    weights = shuffled(model.build(by_terratorch, None).get_submodule(model.stored))
    path = folder / file.name
    held = file.write(path, dict(weights))
    weights = held if isinstance(held, dict) else weights
    try:
        loaded = model.has(model.build(by_terratorch, path), weights)
    except Exception:
        # TerraTorch lets out whatever comes.
        loaded = False
    assert loaded == (not file.said)
    if loaded:
        assert model.has(model.build(by_us, path), weights)
        return
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        model.build(by_us, path)
    message = str(refused.value)
    assert str(path) in message
    assert all(part in message for part in file.said), message


PRITHVI = Model(TINY, "blocks", arguments={"pretrained": True, **SIZES})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_for_prithvi_gives_what_terratorch_makes_of_it(file: File, tmp_path: Path) -> None:
    check(PRITHVI, file, tmp_path)


TIMM = Model(
    "timm_vit_tiny_patch16_224",
    "model.blocks",
    "model",
    "pretrained_cfg_overlay",
    {"pretrained": True, **BLOCKS},
)
TIMM_LAST = Model(TIMM.name, "model.blocks", argument="checkpoint_path", arguments=BLOCKS)
TERRAMIND = Model("terramind_v1_tiny", "encoder", arguments={"modalities": ["S2L2A"]})
BANDS = ["RED", "GREEN", "BLUE"]
DOFA = Model(
    "dofa_small_patch16_224",
    "dofa_model.blocks",
    "dofa_model",
    "ckpt_data",
    {"pretrained": True, "model_bands": BANDS},
)
SSL4EO = Model(
    "ssl4eos12_vit_small_patch16_224_sentinel2_all_dino",
    "vit_model.blocks",
    "vit_model",
    "ckpt_data",
    {"pretrained": True, "model_bands": [f"B{i:02}" for i in range(13)], **BLOCKS},
)

PLAIN = File("plain", content(dict))
DDP = content(partial(prefixed, "module."))
BELOW = content(lambda w: {"state_dict": w})
NAMESPACE = content(lambda w: {"model": w, "args": argparse.Namespace(lr=0.1)})


def of_wrapper(stored: str) -> Callable[[Path, Weights], None]:
    """What TerraTorch's own wrapper saves."""
    return content(partial(prefixed, f"{stored}."))


OTHERS = [
    (TIMM, PLAIN),
    (TIMM, File("below model, a Namespace beside", NAMESPACE)),
    (TIMM, File("prefix of DDP", DDP)),
    (TIMM, File("safetensors", safetensors, name="weights.safetensors")),
    (TIMM, File("below weights", content(lambda w: {"weights": w}), ("in ['weights'], where",))),
    (
        TIMM,
        File(
            "of the wrapper",
            of_wrapper("model"),
            ("36 of 36", "there it is model.blocks.0.norm1.weight: take 'model.' off the names"),
        ),
    ),
    (TIMM_LAST, File("of the wrapper", content(dict))),
    (
        TIMM_LAST,
        File(
            "plain",
            content(lambda w: {key.removeprefix("model."): w[key] for key in w}),
            (
                "could not be built with",
                "give weights as timm saves them as pretrained_cfg_overlay",
            ),
        ),
    ),
    (TERRAMIND, PLAIN),
    (TERRAMIND, File("bfloat16", halved(torch.bfloat16))),
    (TERRAMIND, File("below state_dict", BELOW, ("in ['state_dict'], where",))),
    (
        TERRAMIND,
        File("prefix of DDP", DDP, ("block weights are missing", "take 'module.' off the names")),
    ),
    (DOFA, PLAIN),
    (DOFA, File("of the wrapper", of_wrapper("dofa_model"), ("take 'dofa_model.' off",))),
    (SSL4EO, PLAIN),
    (SSL4EO, File("below state_dict", BELOW)),
    (SSL4EO, File("prefix of DDP", DDP, ("first name is module.", "patch embed weight"))),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "file"), OTHERS, ids=str)
def test_a_file_for_another_backbone_gives_what_terratorch_makes_of_it(
    model: Model, file: File, tmp_path: Path
) -> None:
    check(model, file, tmp_path)


def test_weights_that_terratorch_does_not_have_are_not_called_pretrained() -> None:
    """TerraTorch prints a line and goes on with random weights."""
    with pytest.raises(ValueError, match=r"loaded no pre-trained weights for 144 of .* ckpt_data"):
        load_backbone(DOFA.name, pretrained=True, model_bands=BANDS)


def test_a_file_that_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_text("hello")
    unread: Any = {"ckpt_path": str(tmp_path / "weights.pt"), **SIZES}
    backbone = load_backbone(TINY, **unread)
    assert backbone.pretrained is False


def test_an_address_is_left_to_terratorch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    weights = shuffled(DOFA.build(by_terratorch, None).get_submodule("dofa_model"))
    torch.save(weights, tmp_path / "weights.pt")
    fetched = {"repo_id": "a/b", "filename": "weights.pt"}

    def fetch(**asked: str) -> str:
        assert asked == fetched
        return str(tmp_path / "weights.pt")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    address = "https://hf.co/a/b/resolve/main/weights.pt"
    assert DOFA.has(by_us(DOFA.name, ckpt_data=address, **DOFA.arguments), weights)
