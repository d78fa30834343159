"""Every decoder of TerraTorch stands on a pruned backbone as it stands on the full one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import TINY
from tests.contract.conftest import (
    BACKBONE,
    FULL,
    KEPT,
    PRUNED,
    PYRAMID,
    RESHAPE,
    SELECT,
    SIZE,
    UNET,
    untouched,
)

SEGMENTATION: dict[str, Any] = {"task": "segmentation", "num_classes": 3}
ASPP: dict[str, Any] = {
    "decoder": "ASPPRegressionHead",
    "decoder_in_channels": 192,
    "decoder_channels": 8,
    "decoder_dilations": [1, 2],
}
DECODERS: dict[str, dict[str, Any]] = {
    "unet": SEGMENTATION | UNET,
    "upernet": SEGMENTATION
    | {"necks": [SELECT, RESHAPE, PYRAMID], "decoder": "UperNetDecoder", "decoder_channels": 8},
    "fcn": SEGMENTATION
    | {"necks": [RESHAPE], "decoder": "FCNDecoder", "decoder_channels": 8, "decoder_num_convs": 2},
    # TerraTorch gives the classes to the head even where the decoder needs them.
    "linear": SEGMENTATION
    | {
        "necks": [RESHAPE],
        "decoder": "LinearDecoder",
        "decoder_num_classes": 3,
        "decoder_upsampling_size": 16,
    },
    "mlp": SEGMENTATION | {"necks": [SELECT, RESHAPE], "decoder": "MLPDecoder"},
    "identity": SEGMENTATION | {"necks": [RESHAPE], "decoder": "IdentityDecoder"},
    # Without necks, as configs were before there were any: the backbone makes images itself.
    "fcn without necks": SEGMENTATION | {"decoder": "FCNDecoder", "decoder_channels": 8},
    "aspp": {"task": "regression", "necks": [RESHAPE]} | ASPP,
    "classification": {
        "task": "classification",
        "num_classes": 3,
        "necks": [RESHAPE],
        "decoder": "IdentityDecoder",
    },
}
SHAPES = {"aspp": (2, SIZE, SIZE), "classification": (2, 3)}


def build_model(model_args: dict[str, Any]) -> Any:
    from terratorch.registry import MODEL_FACTORY_REGISTRY

    torch.manual_seed(0)
    factory = MODEL_FACTORY_REGISTRY.build("EncoderDecoderFactory")
    return factory.build_model(**BACKBONE | model_args)


@pytest.mark.parametrize("decoder", DECODERS)
def test_model_has_the_shapes_of_the_full_one_and_trains_every_kept_block(
    pictures: Tensor, decoder: str
) -> None:
    full, pruned = (build_model(DECODERS[decoder] | which) for which in (FULL, PRUNED))
    expected = SHAPES.get(decoder, (2, 3, SIZE, SIZE))
    for model, depth in ((full, 12), (pruned, KEPT)):
        output = model(pictures).output
        assert output.shape == expected
        output.square().mean().backward()
        assert len(model.encoder.blocks) == depth
        assert untouched(model.encoder.blocks) == []


@pytest.mark.parametrize("decoder", DECODERS)
def test_weights_of_the_full_model_go_into_the_pruned_one(pictures: Tensor, decoder: str) -> None:
    """What is not in the backbone's removed blocks has the same names and shapes, and does the
    same: keeping all blocks gives the output of the full model."""
    full = build_model(DECODERS[decoder] | FULL).eval()
    removed = tuple(f"encoder.blocks.{block}." for block in range(KEPT, 12))
    weights = full.state_dict()
    kept = {name: weight for name, weight in weights.items() if not name.startswith(removed)}
    build_model(DECODERS[decoder] | PRUNED).load_state_dict(kept, strict=True)

    everything = build_model(DECODERS[decoder] | PRUNED | {"backbone_keep_blocks": 12}).eval()
    everything.load_state_dict(weights, strict=True)
    assert torch.equal(everything(pictures).output, full(pictures).output)


def test_decoder_reads_the_documented_blocks(pictures: Tensor) -> None:
    """Layers 3, 6, 9 and 12 of 12 are the outputs of blocks 2, 3, 4 and 5 of 5."""
    model = build_model(DECODERS["mlp"] | PRUNED).eval()
    read: list[Tensor] = []
    model.decoder.register_forward_pre_hook(lambda _module, inputs: read.extend(inputs[0]))
    model(pictures)
    kept = model.encoder.forward_features(pictures)
    by_hand = [kept[block - 1][:, 1:].mT.unflatten(2, (4, 4)) for block in (2, 3, 4, 5)]
    assert len(read) == 4
    assert all(map(torch.equal, read, by_hand))


def test_dates_and_places_reach_the_backbone(pictures: Tensor) -> None:
    """Other fields of a batch are handed on to it."""
    when = torch.tensor([[[2020.0, 100.0]], [[2021.0, 200.0]]])
    where = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    full = build_model(DECODERS["unet"] | FULL).eval()
    pruned = build_model(DECODERS["unet"] | PRUNED | {"backbone_keep_blocks": 12}).eval()
    pruned.load_state_dict(full.state_dict())
    told, expected = (
        model(pictures, temporal_coords=when, location_coords=where).output
        for model in (pruned, full)
    )
    assert torch.equal(told, expected)
    assert not torch.equal(told, pruned(pictures).output)


def test_auxiliary_decoder_reads_the_same_outputs(pictures: Tensor) -> None:
    from terratorch.models.model import AuxiliaryHead

    auxiliary = AuxiliaryHead("aux", "FCNDecoder", {"decoder_channels": 8, "decoder_in_index": 2})
    model_args = SEGMENTATION | UNET | {"aux_decoders": [auxiliary]}
    for which in (FULL, PRUNED):
        output = build_model(model_args | which)(pictures)
        assert output.output.shape == output.auxiliary_heads["aux"].shape == (2, 3, SIZE, SIZE)


def test_module_in_place_of_a_name(pictures: Tensor) -> None:
    """The factory takes a backbone that was pruned in Python."""
    import terratorch_simpler as simpler

    backbone = simpler.prune(TINY, KEPT, img_size=SIZE)
    model = build_model(SEGMENTATION | UNET | {"backbone": backbone})
    assert model.encoder is backbone
    assert model(pictures).output.shape == (2, 3, SIZE, SIZE)
