"""Necks of TerraTorch, with the full backbone's settings, on a pruned backbone."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import TINY
from tests.contract.conftest import KEPT, PYRAMID, RESHAPE, SELECT, SIZE, Build

Necks = list[dict[str, Any]]
NECKS: dict[str, Necks] = {
    "select": [SELECT],
    "select from the end": [{"name": "SelectIndices", "indices": [-10, -7, -4, -1]}],
    "reshape": [RESHAPE],
    "learned pyramid": [SELECT, RESHAPE, PYRAMID],
    "interpolated pyramid": [SELECT, RESHAPE, {"name": "InterpolateToPyramidal"}],
    "pooled pyramid": [
        {"name": "SelectIndices", "indices": [3, 7, 11]},
        RESHAPE,
        {"name": "MaxpoolToPyramidal"},
    ],
    "permuted": [{"name": "PermuteDims", "new_order": [0, 2, 1]}],
    "bottleneck": [RESHAPE, {"name": "AddBottleneckLayer"}],
    "aggregated": [{"name": "AggregateTokens", "pooling": "mean", "indices": [5, 11]}],
    "feature pyramid": [
        SELECT,
        RESHAPE,
        PYRAMID,
        {"name": "FeaturePyramidNetworkNeck", "out_channel": 8, "output_ordered_dict": False},
    ],
}
CHANNELS = {
    "select": [192] * 4,
    "select from the end": [192] * 4,
    "learned pyramid": [48, 96, 192, 192],
    "interpolated pyramid": [192] * 4,
    "pooled pyramid": [192] * 3,
    "bottleneck": [*[192] * 12, 96],
    "feature pyramid": [8] * 4,
}
"""Channels after the necks where they are not those of all 12 outputs."""


def chain(necks: Necks, channels: list[int]) -> tuple[nn.Module, list[int]]:
    from terratorch.models.necks import NeckSequential, build_neck_list

    torch.manual_seed(0)
    built, channels = build_neck_list(copy.deepcopy(necks), channels)
    return NeckSequential(*built).eval(), channels


@pytest.mark.parametrize("name", NECKS)
def test_outputs_and_channels_are_as_the_full_backbone_gives_them(
    build: Build, pictures: Tensor, name: str
) -> None:
    shapes = []
    for backbone in (
        build(img_size=SIZE),
        build(f"simpler_{TINY}", keep_blocks=KEPT, img_size=SIZE),
    ):
        necks, channels = chain(NECKS[name], backbone.out_channels)
        assert channels == CHANNELS.get(name, [192] * 12)
        shapes.append([output.shape for output in necks(backbone(pictures))])
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", NECKS)
def test_values_are_those_of_the_documented_kept_blocks(
    build: Build, pictures: Tensor, name: str
) -> None:
    """Entry i of 12 is the output of kept block ceil((i + 1) 5 / 12), counted from 1."""
    pruned = build(f"simpler_{TINY}", keep_blocks=KEPT, img_size=SIZE)
    kept = build(f"simpler_{TINY}", keep_blocks=KEPT, img_size=SIZE, outputs="kept")(pictures)
    assert len(kept) == KEPT
    necks, _ = chain(NECKS[name], pruned.out_channels)
    expected = necks([kept[math.ceil((i + 1) * KEPT / 12) - 1] for i in range(12)])
    outputs = necks(pruned(pictures))
    assert len(outputs) == len(expected)
    assert all(map(torch.equal, outputs, expected))


@pytest.mark.parametrize(
    ("keep", "chosen"),
    [
        (1, [1, 1, 1, 1]),
        (4, [1, 2, 3, 4]),
        (5, [2, 3, 4, 5]),
        (10, [3, 5, 8, 10]),
        (12, [3, 6, 9, 12]),
        ([0, 4, 9], [1, 2, 3, 3]),
    ],
    ids=str,
)
def test_select_indices_picks_the_documented_kept_block(
    build: Build, pictures: Tensor, keep: int | list[int], chosen: list[int]
) -> None:
    pruned = build(f"simpler_{TINY}", keep_blocks=keep, img_size=SIZE)
    necks, _ = chain([SELECT], pruned.out_channels)
    kept = pruned.forward_features(pictures)
    assert all(map(torch.equal, necks(pruned(pictures)), [kept[block - 1] for block in chosen]))


def test_frames_become_channels(build: Build) -> None:
    reshape = [SELECT, {**RESHAPE, "effective_time_dim": 3}]
    for backbone in (
        build(img_size=32, num_frames=3),
        build(f"simpler_{TINY}", keep_blocks=KEPT, img_size=32, num_frames=3),
    ):
        necks, channels = chain(reshape, backbone.out_channels)
        outputs = necks(backbone(torch.zeros(1, 6, 3, 32, 32)))
        assert [output.shape[1] for output in outputs] == channels == [576] * 4


def test_images_need_not_be_square(build: Build) -> None:
    wide = torch.zeros(1, 6, 32, SIZE)
    for backbone in (
        build(img_size=SIZE),
        build(f"simpler_{TINY}", keep_blocks=KEPT, img_size=SIZE),
    ):
        necks, _ = chain([SELECT, RESHAPE], backbone.out_channels)
        outputs = necks(backbone(wide), image_size=(32, SIZE))
        assert {output.shape for output in outputs} == {(1, 192, 2, 4)}


def test_indices_that_do_not_exist_fail_as_with_the_full_backbone(build: Build) -> None:
    for backbone in (
        build(img_size=SIZE),
        build(f"simpler_{TINY}", keep_blocks=KEPT, img_size=SIZE),
    ):
        with pytest.raises(IndexError, match="list index out of range"):
            chain([{"name": "SelectIndices", "indices": [12]}], backbone.out_channels)
