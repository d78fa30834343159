"""Vision transformers of timm, and DINOv3 of TerraTorch, keep the promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from terratorch_simpler.backbones.backbone import Backbone, load_backbone
from terratorch_simpler.pruning import prune
from terratorch_simpler.selection.select import SelectionWarning, select
from tests.backbones.families.tester import COUNTED, BackboneTester


class TestVit(BackboneTester):
    """As ViT-MAE, whose backbone is the same class."""

    name = "timm_vit_tiny_patch16_224"
    arguments: ClassVar[dict[str, Any]] = {"img_size": 32}
    shape = (3, 32, 32)
    family = "timm ViT"
    outputs = 3
    chosen: ClassVar[list[int] | None] = [9, 10, 11]


class TestVitOutIndices(TestVit):
    arguments: ClassVar[dict[str, Any]] = {"img_size": 32, "out_indices": [2, 5, 8]}
    chosen: ClassVar[list[int] | None] = [2, 5, 8]
    spared = COUNTED

    def test_channels_and_shapes(self) -> None:
        assert self.pruned().out_channels == [192] * 3

    def test_all_blocks_change_nothing(self) -> None:
        """TerraTorch's own leaves out the blocks after the last index."""
        from terratorch.registry import BACKBONE_REGISTRY

        whole = self.pruned(keep_blocks=12)
        short = BACKBONE_REGISTRY.build(self.name, **self.arguments).eval()
        assert len(short.model.blocks) == 9
        short.load_state_dict(whole.state_dict(), strict=False)
        torch.testing.assert_close(self.run(whole), self.run(short), atol=0, rtol=0)

    def test_entries_of_the_full_depth(self) -> None:
        assert self.pruned().output_blocks == [0, 1, 2]


class TestDeit(TestVit):
    name = "timm_deit_tiny_distilled_patch16_224"


class TestDinov2Registers(TestVit):
    name = "timm_vit_small_patch14_reg4_dinov2"
    arguments: ClassVar[dict[str, Any]] = {"img_size": 28}
    shape = (3, 28, 28)


class TestClip(TestVit):
    name = "timm_vit_xsmall_patch16_clip_224"
    depth = 10
    chosen: ClassVar[list[int] | None] = [7, 8, 9]


class TestEva(TestVit):
    name = "timm_eva02_tiny_patch14_224"
    arguments: ClassVar[dict[str, Any]] = {"img_size": 28}
    shape = (3, 28, 28)


class TestDinov3OfTimm(TestVit):
    name = "timm_vit_small_patch16_dinov3"


class TestXcit(TestVit):
    name = "timm_xcit_nano_12_p16_224"
    arguments: ClassVar[dict[str, Any]] = {}


class TestMixer(TestVit):
    name = "timm_mixer_s32_224"
    arguments: ClassVar[dict[str, Any]] = {"img_size": 64}
    shape = (3, 64, 64)
    depth = 8
    chosen: ClassVar[list[int] | None] = [5, 6, 7]


class TestSam(TestVit):
    """Keeps its tokens in rows and columns."""

    name = "timm_samvit_base_patch16_224"
    arguments: ClassVar[dict[str, Any]] = {"img_size": 32, "embed_dim": 48, "num_heads": 4}


class TestMixedRope(TestVit):
    whole = True
    name = "timm_vit_small_patch16_rope_mixed_224"
    spared: ClassVar[dict[str, str]] = {
        "list_that_is_no_prefix": "its rotary position embedding has an entry for each block"
    }

    def test_list_that_is_refused(self) -> None:
        full = load_backbone(self.name, **self.arguments).module
        with pytest.raises(ValueError, match=r"can only keep its first blocks, not \[0, 2\]"):
            prune(full, [0, 2])


class StandIn(nn.Module):
    """What TerraTorch's wrapper uses of a DINOv3, whose code is fetched when it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_dim, self.n_storage_tokens = 32, 4
        self.patch_embed = nn.Conv2d(3, 32, 16, 16)
        self.special = nn.Parameter(torch.randn(1, 5, 32))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, dropout=0, batch_first=True, norm_first=True)
            for _ in range(12)
        )
        self.norm = nn.LayerNorm(32)

    def get_intermediate_layers(
        self, image: Tensor, n: list[int], return_class_token: bool
    ) -> list[Any]:
        """Normed patch tokens of some blocks, each with its class token."""
        patches = self.patch_embed(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.special.expand(len(image), -1, -1), patches], dim=1)
        outputs: list[Any] = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in n:
                normed = self.norm(tokens)
                outputs.append(
                    (normed[:, 5:], normed[:, 0]) if return_class_token else normed[:, 5:]
                )
        return outputs


class TestDinov3OfTerratorch(BackboneTester):
    name = "dinov3_vits16"
    shape = (3, 32, 32)
    family = "DINOv3"

    @pytest.fixture(autouse=True)
    def _stand_in(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def load(repository: str, model: str, weights: str | None = None, **_: Any) -> nn.Module:
            assert (repository, model) == ("facebookresearch/dinov3", "dinov3_vits16")
            assert weights is not None
            module = StandIn()
            # Loaded, as DINOv3 does, but others with another seed.
            module.load_state_dict(StandIn().state_dict())
            return module

        monkeypatch.setattr(torch.hub, "load", load)
        torch.save(StandIn().state_dict(), tmp_path / "dinov3.pth")
        monkeypatch.setattr(type(self), "arguments", {"ckpt_path": str(tmp_path / "dinov3.pth")})

    def patches(self, full: Backbone, tokens: Tensor) -> Tensor:
        del full
        return tokens[:, 5:]


def test_the_scale_of_the_last_output_is_told() -> None:
    """Spreads of tokens by their definition: the norm of their covariance, to the power 1/2."""
    generator = torch.Generator().manual_seed(0)
    tiles = torch.randn(64, 3, 32, 32, generator=generator)
    backbone: Any = load_backbone("timm_vit_tiny_patch16_224", img_size=32).module
    with torch.no_grad():
        for parameter in backbone.model.blocks[11].parameters():
            parameter.mul_(20)
        full = backbone.model.forward_intermediates(
            tiles, norm=False, output_fmt="NLC", intermediates_only=True
        )
    with pytest.warns(SelectionWarning, match="puts no norm on its last output"):
        plan = select(backbone, torch.split(tiles, 16), tokens=4, criterion="first", depth=3)
    spread = [torch.linalg.matrix_norm(torch.cov(full[i].flatten(0, 1).T)) ** 0.5 for i in (2, 11)]
    gap = select(backbone, torch.split(tiles, 16), criterion="block_influence", depth=3)
    assert gap.kept_blocks[-1] == 11
    assert gap.output_scale is None
    # The sample covariance of 256 tokens of 192 channels is biased, differently for the two.
    assert plan.output_scale == pytest.approx(float(spread[0] / spread[1]), rel=0.2)
