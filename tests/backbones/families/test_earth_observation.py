"""Prithvi, TerraMind, DOFA and SSL4EO keep the promises."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from terratorch_simpler.backbones.backbone import Backbone
from tests.backbones.families.tester import COUNTED, BackboneTester

RGB = ["RED", "GREEN", "BLUE"]
FLOAT_WAVES = "wavelengths are float32, which the full one does not mix either"


class TestPrithvi(BackboneTester):
    name = "prithvi_eo_v2_tiny_tl"
    arguments: ClassVar[dict[str, Any]] = {"img_size": 32}
    shape: ClassVar[Any] = (6, 32, 32)
    family = "Prithvi"
    normed = 1


class TestPrithviUnknownBands(TestPrithvi):
    arguments: ClassVar[dict[str, Any]] = {"img_size": 32, "bands": ["BLUE", "RED_EDGE_1", "VV"]}
    shape: ClassVar[Any] = (3, 32, 32)


class TestPrithviOutIndices(TestPrithvi):
    arguments: ClassVar[dict[str, Any]] = {"img_size": 32, "out_indices": [2, 5, 8, 11]}
    outputs = 4
    chosen: ClassVar[list[int] | None] = [2, 5, 8, 11]
    spared = COUNTED

    def test_channels_and_shapes(self) -> None:
        # The full backbone says one width a block, whatever it returns.
        assert self.pruned().out_channels == [192] * 4

    def test_entries_of_the_full_depth(self) -> None:
        assert self.pruned().output_blocks == [0, 1, 2, 2]


class TestPrithviPrompts(TestPrithvi):
    whole = True
    arguments: ClassVar[dict[str, Any]] = {"img_size": 32, "vpt": True, "vpt_n_tokens": 5}
    spared: ClassVar[dict[str, str]] = {
        "freeze": "Prithvi's own freeze() leaves prompts to be trained, as they are there for"
    }

    def patches(self, full: Backbone, tokens: Tensor) -> Tensor:
        del full
        return tokens[:, 6:] if tokens.shape[1] == 10 else tokens[:, 1:]


class TestPrithviFramesAndCoordinates(TestPrithvi):
    whole = True
    arguments: ClassVar[dict[str, Any]] = {
        "img_size": 32,
        "num_frames": 4,
        "coords_encoding": ["time", "location"],
    }
    shape: ClassVar[Any] = (6, 4, 32, 32)
    spared: ClassVar[dict[str, str]] = {
        "bfloat16": "coordinates are encoded in float32, which the full one does not mix either"
    }

    def inputs(self, batch: int = 2) -> dict[str, Tensor]:
        days = torch.tensor([[2019.0, 12], [2019, 99], [2020, 181], [2021, 300]])
        place = torch.tensor([[-14.2, 33.1]])
        return {
            "temporal_coords": days.expand(batch, -1, -1),
            "location_coords": place.expand(batch, -1),
        }

    def patches(self, full: Backbone, tokens: Tensor) -> Tensor:
        del full
        return tokens[:, 1:]


class TestTerraMind(BackboneTester):
    name = "terramind_v1_tiny"
    arguments: ClassVar[dict[str, Any]] = {"modalities": ["S2L2A"], "img_size": 32}
    shape: ClassVar[Any] = (12, 32, 32)
    family = "TerraMind"
    normed = 1

    def patches(self, full: Backbone, tokens: Tensor) -> Tensor:
        del full
        return tokens


class TestTerraMindBands(TestTerraMind):
    arguments: ClassVar[dict[str, Any]] = {
        "modalities": ["S2L2A"],
        "bands": {"S2L2A": RGB},
        "img_size": 32,
    }
    shape: ClassVar[Any] = (3, 32, 32)


class TestTerraMindModalities(TestTerraMind):
    """Three that TerraMind knows and one of the user's own, merged by their mean."""

    whole = True
    arguments: ClassVar[dict[str, Any]] = {
        "modalities": ["S2L1C", "S1GRD", "RGB", {"mine": 4}],
        "img_size": 32,
        "patch_size": 16,
    }
    shape: ClassVar[Any] = {
        "S2L1C": (13, 32, 32),
        "S1GRD": (2, 32, 32),
        "RGB": (3, 32, 32),
        "mine": (4, 32, 32),
    }


class TestTerraMindMax(TestTerraMind):
    arguments: ClassVar[dict[str, Any]] = {
        "modalities": ["S2L2A", "S1RTC", "DEM"],
        "merge_method": "max",
        "img_size": 32,
    }
    shape: ClassVar[Any] = {"S2L2A": (12, 32, 32), "S1RTC": (2, 32, 32), "DEM": (1, 32, 32)}


class TestTerraMindConcat(TestTerraMindMax):
    arguments: ClassVar[dict[str, Any]] = TestTerraMindMax.arguments | {"merge_method": "concat"}
    uninitialised = ("missing_mod_token",)


class TestTerraMindDict(TestTerraMindMax):
    arguments: ClassVar[dict[str, Any]] = TestTerraMindMax.arguments | {"merge_method": "dict"}


class TestDofa(BackboneTester):
    name = "dofa_small_patch16_224"
    arguments: ClassVar[dict[str, Any]] = {"model_bands": RGB, "img_size": 32}
    shape = (3, 32, 32)
    family = "DOFA"
    outputs = 1
    chosen: ClassVar[list[int] | None] = [11]
    spared: ClassVar[dict[str, str]] = {"bfloat16": FLOAT_WAVES}


class TestDofaOutIndices(TestDofa):
    arguments: ClassVar[dict[str, Any]] = TestDofa.arguments | {"out_indices": [0, 1, 2, 11]}
    outputs = 4
    chosen: ClassVar[list[int] | None] = [0, 1, 2, 11]
    spared: ClassVar[dict[str, str]] = {"bfloat16": FLOAT_WAVES} | COUNTED

    def test_entries_of_the_full_depth(self) -> None:
        assert self.pruned().output_blocks == [0, 0, 0, 2]


class TestSsl4eo(BackboneTester):
    name = "ssl4eos12_vit_small_patch16_224_sentinel2_all_moco"
    arguments: ClassVar[dict[str, Any]] = {"model_bands": RGB, "img_size": 32}
    shape = (3, 32, 32)
    family = "SSL4EO ViT"
