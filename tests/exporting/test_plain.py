"""Pruned models in TerraTorch's own words: the same outputs, or a reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from terratorch.models import EncoderDecoderFactory
from torch import nn

from terratorch_simpler.backbones.pruned import find_pruned
from terratorch_simpler.exporting.plain import plain_model
from tests.conftest import TINY
from tests.exporting.conftest import BACKBONE, SIZE, UNET

SELECT, *REST = UNET["necks"]
DINO = {
    "backbone": "simpler_timm_vit_small_patch14_dinov2",
    "backbone_img_size": 56,
    "backbone_pretrained": False,
}
FLAT: dict[str, Any] = {"decoder": "FCNDecoder", "decoder_channels": 8}


def _model(model_args: dict[str, Any], seed: int) -> Any:
    torch.manual_seed(seed)
    return EncoderDecoderFactory().build_model(task="segmentation", num_classes=2, **model_args)


@pytest.mark.parametrize("keep", [5, [0, 2, 5]], ids=["first", "list"])
@pytest.mark.parametrize(
    "model",
    [
        {"backbone": f"simpler_{TINY}", **BACKBONE, **UNET},
        {"backbone": f"simpler_{TINY}", **BACKBONE, "necks": REST[:1], **FLAT},
        {"backbone": f"simpler_{TINY}", **BACKBONE, **FLAT},
        {**DINO, "necks": [SELECT], "backbone_out_indices": [*range(12)], **FLAT},
        {**DINO, "necks": REST[1:], "backbone_out_indices": [2, 5, 8, 11], **FLAT},
        {**DINO, **FLAT},
    ],
    ids=["select", "no select", "no necks", "timm select", "timm indices", "timm no necks"],
)
def test_it_gives_the_same(model: dict[str, Any], keep: int | list[int]) -> None:
    given = {**model, "backbone_keep_blocks": keep, "backbone_patch_embedding": "auto"}
    pruned = _model(given, seed=0).eval()
    plain = plain_model(given, find_pruned(pruned))
    assert "simpler" not in str(plain.model_args)
    assert "patch_embedding" not in str(plain.model_args)
    other = _model(plain.model_args, seed=1).eval()
    weights = {f"model.{name}": value for name, value in pruned.state_dict().items()}
    moved = plain.state_dict(weights)
    other.load_state_dict({k.removeprefix("model."): v for k, v in moved.items()})
    side, bands = (56, 3) if "timm" in given["backbone"] else (SIZE, 6)
    images = torch.randn(2, bands, side, side)
    with torch.inference_mode():
        assert torch.equal(pruned(images).output, other(images).output)


def test_a_full_model_is_plain_as_it_is() -> None:
    given = {"backbone": TINY, **BACKBONE, **UNET}
    assert plain_model(given, None).model_args == given


def test_where_terratorch_takes_no_depth_that_is_said() -> None:
    model: dict[str, Any] = {
        "backbone": "simpler_terramind_v1_tiny",
        "backbone_keep_blocks": 4,
        "backbone_modalities": ["S2L2A"],
        "backbone_img_size": SIZE,
        **UNET,
    }
    model["necks"] = [SELECT, {**REST[0], "remove_cls_token": False}, REST[1]]
    built = _model(model, seed=0)
    with pytest.raises(ValueError, match="TerraTorch has no terramind_v1_tiny of 4 blocks"):
        plain_model(model, find_pruned(built))


def test_weights_of_other_shapes_are_refused() -> None:
    given = {"backbone": f"simpler_{TINY}", "backbone_keep_blocks": 5, **BACKBONE, **UNET}
    pruned: Any = find_pruned(_model(given, seed=0))
    pruned.blocks[2].mlp.fc1 = nn.Linear(192, 99)
    with pytest.raises(ValueError, match=r"has other weights .*blocks\.2\.mlp\.fc1"):
        plain_model(given, pruned)
