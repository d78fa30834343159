"""Inputs that only some families have: modalities, frames, coordinates, fixed sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from terratorch_simpler.backbones.backbone import Backbone, load_backbone
from terratorch_simpler.selection.select import select
from terratorch_simpler.tiles.batches import modalities_of
from terratorch_simpler.tiles.checks import check_images

Build = Callable[..., Any]


@pytest.fixture(autouse=True)
def _loaded(build: Build) -> None:
    """The registry is full once TerraTorch is imported."""


def load(name: str, **arguments: Any) -> Backbone:
    return load_backbone(name, **arguments)


def zeros(*shape: int) -> Tensor:
    return torch.zeros(2, *shape)


def two_modalities() -> Backbone:
    return load("terramind_v1_tiny", modalities=["S2L2A", "S1RTC"], img_size=32)


def four_frames() -> Backbone:
    return load("prithvi_eo_v2_tiny_tl", num_frames=4, img_size=32)


def with_coordinates() -> Backbone:
    return load("prithvi_eo_v2_tiny_tl", coords_encoding=["time", "location"], img_size=32)


def fixed_size() -> Backbone:
    return load("timm_vit_tiny_patch16_224")


def fixed_dofa() -> Backbone:
    return load("dofa_small_patch16_224", model_bands=["RED", "GREEN"])


@pytest.mark.parametrize(
    ("backbone", "image", "inputs", "message"),
    [
        (
            two_modalities,
            {"S2L2A": zeros(12, 32, 32)},
            {},
            "reads the modalities S2L2A, S1RTC and misses S1RTC",
        ),
        (
            two_modalities,
            {"S2L2A": zeros(12, 32, 32), "S1RTC": zeros(2, 32, 32), "NAIP": zeros(4, 32, 32)},
            {},
            "reads the modalities S2L2A, S1RTC and does not know NAIP",
        ),
        (two_modalities, zeros(12, 32, 32), {}, "misses S1RTC"),
        (
            two_modalities,
            {"S2L2A": zeros(12, 32, 32), "S1RTC": zeros(3, 32, 32)},
            {},
            r"reads 2 bands, the tiles of S1RTC have shape \[3, 32, 32\]",
        ),
        (
            two_modalities,
            {"S2L2A": zeros(12, 32, 40), "S1RTC": zeros(2, 32, 32)},
            {},
            "patches of 16 px, those of S2L2A have 32 x 40: make both a multiple of it",
        ),
        (four_frames, zeros(6, 3, 32, 32), {}, r"built for 4 frames .*the tiles have 3"),
        (four_frames, zeros(6, 32, 32), {}, r"built for 4 frames .*the tiles have 1"),
        (
            with_coordinates,
            zeros(6, 32, 32),
            {"location_coords": torch.zeros(2, 2)},
            "is to encode the time .*the batches hold no temporal_coords",
        ),
        (
            with_coordinates,
            zeros(6, 32, 32),
            {"temporal_coords": torch.zeros(2, 1, 2)},
            "is to encode the location .*the batches hold no location_coords",
        ),
        (
            fixed_size,
            zeros(3, 64, 64),
            {},
            "embedding for 224 x 224 px, the tiles have 64 x 64: .*img_size=64",
        ),
        (fixed_dofa, zeros(2, 64, 64), {}, "embedding for 224 x 224 px, the tiles have 64 x 64"),
        (fixed_dofa, zeros(3, 224, 224), {}, "reads 2 bands"),
        (fixed_dofa, {"S2L2A": zeros(2, 224, 224)}, {}, "reads one image, .*modalities S2L2A"),
    ],
)
def test_tiles_that_do_not_fit(
    backbone: Callable[[], Backbone], image: Any, inputs: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_images(image, backbone(), inputs)


@pytest.mark.parametrize(
    ("backbone", "image", "inputs"),
    [
        (two_modalities, {"S2L2A": zeros(12, 32, 32), "S1RTC": zeros(2, 32, 32)}, {}),
        (four_frames, zeros(6, 4, 32, 32), {}),
        (
            with_coordinates,
            zeros(6, 32, 32),
            {"temporal_coords": torch.zeros(2, 1, 2), "location_coords": torch.zeros(2, 2)},
        ),
        (fixed_size, zeros(3, 224, 224), {}),
        (fixed_dofa, zeros(2, 224, 224), {}),
        (lambda: load("terramind_v1_tiny", modalities=["DEM"], img_size=32), zeros(1, 48, 48), {}),
        (
            lambda: load("terramind_v1_tiny", modalities=["S2L2A"], bands={"S2L2A": ["RED"]}),
            zeros(1, 32, 32),
            {},
        ),
    ],
)
def test_tiles_that_fit(
    backbone: Callable[[], Backbone], image: Any, inputs: dict[str, Tensor]
) -> None:
    check_images(image, backbone(), inputs)


def test_time_and_place_can_be_left_out_where_nobody_asked_for_them() -> None:
    """The TL variants encode both by default, and TerraTorch runs them without."""
    check_images(zeros(6, 32, 32), load("prithvi_eo_v2_tiny_tl", img_size=32))


def test_modalities_that_are_no_images_are_left_out() -> None:
    given = {"S2L2A": zeros(12, 32, 32), "coords": torch.zeros(2, 4), "caption": ["a", "b"]}
    assert list(modalities_of(given)) == ["S2L2A"]


class Widening(nn.Module):
    """Blocks of one class that hand on wider tokens than they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.layers = nn.ModuleList(nn.Linear(8 * 2**i, 16 * 2**i) for i in range(4))

    def forward(self, image: Tensor) -> list[Tensor]:
        tokens = self.embed(image).flatten(2).transpose(1, 2)
        outputs = []
        for layer in self.layers:
            tokens = layer(tokens)
            outputs.append(tokens)
        return outputs


def test_blocks_that_change_the_width_are_refused_before_they_run() -> None:
    message = r"the blocks of layers turn \(2, 3136, 8\) into \(2, 3136, 16\)"
    with pytest.raises(ValueError, match=message):
        select(Widening(), [zeros(3, 32, 32)] * 4, blocks="layers")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ("encoder.layers", "nothing at blocks='encoder.layers': its lists are blocks"),
        ("patch_embed", "blocks='patch_embed' is no list of blocks but a PatchEmbed"),
        ("blocks.0", "blocks='blocks.0' is no list of blocks but a Block"),
    ],
)
def test_blocks_that_are_none_are_refused(blocks: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("prithvi_eo_v2_tiny_tl", blocks=blocks)


def test_what_a_backbone_raises_is_said_in_one_message() -> None:
    class Picky(Widening):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

        def forward(self, image: Tensor) -> list[Tensor]:
            if image.device.type != "meta":
                raise RuntimeError("not on a Wednesday")
            return super().forward(image)

    message = r"Picky cannot run on tiles of {'image': \[3, 32, 32\]}: not on a Wednesday"
    with pytest.raises(ValueError, match=message):
        select(Picky(), [zeros(3, 32, 32)] * 4)
