from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from terratorch_simpler.catalogue.entry import Entry
from terratorch_simpler.catalogue.look import entry_of, every_name

Build = Callable[..., Any]


@pytest.fixture(autouse=True)
def _loaded(build: Build) -> None:
    """The registry is full once TerraTorch is imported."""


def test_every_name_of_the_registry_is_listed_once_and_no_pruned_one() -> None:
    every = every_name()
    assert len(every) > 1000
    assert len(set(every)) == len(every)
    assert {"prithvi_eo_v2_300", "terramind_v1_base", "timm_resnet18"} <= set(every)
    assert not any(name.startswith("simpler_") for name in every)


@pytest.mark.parametrize(
    ("name", "family", "blocks", "depth", "width"),
    [
        ("prithvi_eo_v2_600_tl", "Prithvi", "blocks", 32, 1280),
        ("terramind_v1_large", "TerraMind", "encoder", 24, 1024),
        ("terramind_v1_tiny_tim", "TerraMind TiM", "encoder", 12, None),
        pytest.param(
            *("timm_vit_giant_patch14_reg4_dinov2", "timm ViT", "model.blocks", 40, 1536),
            marks=pytest.mark.slow,
        ),
        ("timm_vit_small_patch16_rope_mixed_224", "timm ViT", "model.blocks", 12, 384),
        ("timm_samvit_base_patch16_224", "timm ViT", "model.blocks", 12, 768),
        pytest.param(
            *("timm_gemma4_vit_167m", "timm ViT", "model.encoder.blocks", 16, None),
            marks=pytest.mark.slow,
        ),
        ("dofa_large_patch16_224", "DOFA", "dofa_model.blocks", 24, 1024),
        (
            "ssl4eos12_vit_small_patch16_224_sentinel2_all_moco",
            "SSL4EO ViT",
            "vit_model.blocks",
            12,
            384,
        ),
    ],
)
def test_backbones_that_can_be_cut(
    name: str, family: str, blocks: str, depth: int, width: int | None
) -> None:
    entry = entry_of(name)
    assert (entry.family, entry.blocks, entry.depth) == (family, blocks, depth)
    assert entry.reason is None
    # What reads numbers from tensors cannot be run without weights, so that no width is seen.
    assert entry.width == width
    assert entry.parameters is not None


def test_parameters_are_those_of_the_full_backbone(build: Build) -> None:
    full = sum(weight.numel() for weight in build("prithvi_eo_tiny", img_size=224).parameters())
    assert entry_of("prithvi_eo_tiny").parameters == full


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("timm_swin_tiny_patch4_window7_224", "its 4 stages are 96, 192, 384, 768 channels wide"),
        ("timm_hiera_tiny_224", "hierarchical or convolutional"),
        ("timm_pvt_v2_b0", "hierarchical or convolutional"),
        ("timm_convit_tiny", "turn (2, 196, 192) into (2, 197, 192)"),
        ("timm_crossvit_9_240", "channels wide"),
        ("satlas_swin_t_sentinel2_si_rgb", "its lists of blocks differ in width"),
        ("ssl4eos12_resnet50_sentinel2_all_dino", "it has no list of equal transformer blocks"),
        ("UNet", "it has no list of equal transformer blocks"),
        ("IdentityBackbone", "it has no list of equal transformer blocks"),
        ("terramind_v1_tokenizer_lulc", "it is a tokenizer"),
        ("dinov3_convnext_tiny", "needs ckpt_path"),
    ],
)
def test_backbones_that_cannot_be_cut_say_why(name: str, reason: str) -> None:
    entry = entry_of(name)
    assert entry.family is None
    assert entry.reason is not None
    assert reason in entry.reason


def test_dinov3_of_terratorch_can_be_cut_but_needs_its_weights_to_be_looked_at() -> None:
    entry = entry_of("dinov3_vitl16")
    assert (entry.family, entry.depth) == ("DINOv3", None)
    assert entry.reason == "needs ckpt_path: build it to see its layers"


def test_a_builder_that_fails_is_a_line_of_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    from terratorch.registry import TERRATORCH_BACKBONE_REGISTRY

    def broken(**_arguments: Any) -> None:
        raise ZeroDivisionError("of its own")

    monkeypatch.setitem(TERRATORCH_BACKBONE_REGISTRY._registry, "broken", broken)
    reason = "could not be looked at (ZeroDivisionError: of its own)"
    assert entry_of("broken") == Entry("broken", reason=reason)
