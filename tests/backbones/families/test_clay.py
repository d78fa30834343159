"""Clay keeps the promises, and its files of weights are read as TerraTorch reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import terratorch_simpler as simpler
from terratorch_simpler.backbones.backbone import Backbone, load_backbone
from tests.backbones.families.test_earth_observation import FLOAT_WAVES
from tests.backbones.families.tester import COUNTED, BackboneTester


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its builder takes no width, and 768 channels add nothing to what is promised."""
    from terratorch.models.backbones.clay_v1 import embedder
    from terratorch.models.backbones.clay_v1.modules import EmbeddingEncoder

    def narrow(**arguments: Any) -> Any:
        return EmbeddingEncoder(**arguments | {"dim": 64, "heads": 4, "dim_head": 16})

    monkeypatch.setattr(embedder, "EmbeddingEncoder", narrow)


class Nothing(nn.Module):
    """Stands for layers whose output is added to their input."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Add nothing."""
        return torch.zeros_like(tokens)


class TestClay(BackboneTester):
    name = "clay_v1_base"
    arguments: ClassVar[dict[str, Any]] = {"img_size": 32}
    shape: ClassVar[Any] = (6, 32, 32)
    family = "Clay"
    normed = 1
    spared: ClassVar[dict[str, str]] = {"bfloat16": FLOAT_WAVES}

    def skip(self) -> nn.Module:
        return nn.ModuleList([Nothing(), Nothing()])

    def ends(self, block: Any) -> tuple[nn.Module, nn.Module]:
        attention, feed_forward = block
        return attention, feed_forward

    def tokens(self, given: Tensor, output: Tensor) -> Tensor:
        return given + output

    def test_map_for_decoders_without_necks(self) -> None:
        full, pruned = self.full().module, self.pruned()
        outputs = self.run(pruned)
        prepare: Any = full.prepare_features_for_image_model
        (mine,) = pruned.prepare_features_for_image_model(outputs)
        assert torch.equal(mine, prepare(outputs)[0])
        assert mine.shape == (2, 64, 4, 4)


class TestClayPrompts(TestClay):
    whole = True
    arguments: ClassVar[dict[str, Any]] = {"img_size": 32, "vpt": True, "vpt_n_tokens": 3}
    spared: ClassVar[dict[str, str]] = TestClay.spared | {
        "freeze": "Clay's own freeze() leaves prompts to be trained, as they are there for"
    }

    def patches(self, full: Backbone, tokens: Tensor) -> Tensor:
        del full
        return tokens[:, 4:] if tokens.shape[1] == 20 else tokens[:, 1:]


class TestClayOutIndices(TestClay):
    arguments: ClassVar[dict[str, Any]] = {"img_size": 32, "out_indices": [2, 5, 11]}
    outputs = 3
    chosen: ClassVar[list[int] | None] = [2, 5, 11]
    spared: ClassVar[dict[str, str]] = TestClay.spared | COUNTED

    def test_entries_of_the_full_depth(self) -> None:
        assert self.pruned().output_blocks == [0, 1, 2]


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda stored: {"state_dict": stored}, None),
        (lambda stored: stored, "no weights where TerraTorch looks .* model.encoder. below"),
        (
            lambda stored: {"state_dict": {k[6:]: value for k, value in stored.items()}},
            "no weights where TerraTorch looks .* model.encoder. below the key state_dict",
        ),
        (
            lambda stored: {"state_dict": {k: stored[k] for k in stored if "s.3." not in k}},
            "10 of 120 block weights are missing, the first is layers.3.0.norm.weight",
        ),
    ],
)
def test_file_of_weights(wrap: Any, said: str | None, tmp_path: Path) -> None:
    encoder = (
        load_backbone("clay_v1_base", img_size=32).module.get_submodule("clay_encoder").state_dict()
    )
    file = tmp_path / "clay.ckpt"
    torch.save(wrap({f"model.encoder.{name}": value for name, value in encoder.items()}), file)
    if said is not None:
        with pytest.raises(ValueError, match=said):
            simpler.prune("clay_v1_base", 5, img_size=32, ckpt_path=str(file))
        return
    loaded = (
        simpler.prune("clay_v1_base", 5, img_size=32, ckpt_path=str(file))
        .get_submodule("clay_encoder")
        .state_dict()
    )
    assert all(torch.equal(value, encoder[name]) for name, value in loaded.items())


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="position embedding for 32 x 32 px, the tiles"):
        simpler.select("clay_v1_base", [torch.zeros(2, 6, 48, 48)], img_size=32, progress=False)
