"""Backbones that no entry of the table knows: found by their structure, or asked about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import terratorch_simpler as simpler
from terratorch_simpler.backbones.families import find_family
from terratorch_simpler.backbones.families.structure import block_lists, find_blocks
from terratorch_simpler.backbones.families.tracing import trace, without_memory
from tests.backbones.families.tester import BackboneTester


def layer(width: int = 32) -> nn.Module:
    return nn.TransformerEncoderLayer(width, 4, 64, dropout=0, batch_first=True, norm_first=True)


class PlainViT(nn.Module):
    """A ViT of somebody's own."""

    def __init__(self, depth: int = 6, **_arguments: Any) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 32, 16, 16)
        self.layers = nn.ModuleList(layer() for _ in range(depth))
        self.out_channels = [32] * depth
        self.img_size = 32

    def outputs(self, image: Tensor) -> list[Tensor]:
        tokens = self.embed(image).flatten(2).transpose(1, 2)
        outputs = []
        for block in self.layers:
            tokens = block(tokens)
            outputs.append(tokens)
        return outputs

    def forward(self, image: Tensor) -> Any:
        return self.outputs(image)


class ChoosingViT(PlainViT):
    def __init__(self) -> None:
        super().__init__()
        self.out_indices = [1, 3, 5]
        self.out_channels = [32] * 3

    def forward(self, image: Tensor) -> Any:
        return [out for i, out in enumerate(self.outputs(image)) if i in self.out_indices]


class LastViT(PlainViT):
    def __init__(self) -> None:
        super().__init__()
        self.out_channels = [32]

    def forward(self, image: Tensor) -> Any:
        return self.outputs(image)[-1]


class TwoTowers(PlainViT):
    def __init__(self) -> None:
        super().__init__()
        self.others = nn.ModuleList(layer() for _ in range(4))


class TestForeignName(BackboneTester):
    """Registered by somebody else, after this package was imported."""

    name = "their_vit"
    shape = (3, 32, 32)
    family = "ViT by structure"
    depth = 6
    outputs = 6

    @pytest.fixture(autouse=True)
    def _registered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from terratorch.registry import TERRATORCH_BACKBONE_REGISTRY

        def their_vit(pretrained: bool = False, **arguments: Any) -> nn.Module:
            del pretrained
            return PlainViT(**arguments)

        monkeypatch.setitem(TERRATORCH_BACKBONE_REGISTRY._registry, "their_vit", their_vit)

    spared: ClassVar[dict[str, str]] = {}


IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_chosen_outputs_keep_their_meaning() -> None:
    full = ChoosingViT().eval()
    pruned = simpler.prune(full, 3)
    assert pruned.output_blocks == [0, 1, 2]
    assert torch.equal(pruned(IMAGE)[0], full.outputs(IMAGE)[0])
    assert full.out_indices == [1, 3, 5]
    with pytest.raises(ValueError, match=r"out_indices \[3, 5\] do not exist"):
        simpler.prune(full, 3, outputs="kept")


def test_one_tensor_is_passed_on() -> None:
    full = LastViT().eval()
    pruned = simpler.prune(full, [0, 1])
    assert pruned.out_channels == [32]
    assert torch.equal(pruned(IMAGE), full.outputs(IMAGE)[1])


def test_two_lists_of_one_kind_are_asked_about() -> None:
    full = TwoTowers().eval()
    with pytest.raises(ValueError, match=r"layers \(6\), others \(4\): name one with blocks="):
        simpler.prune(full, 2)
    pruned = simpler.prune(full, 2, blocks="layers")
    assert len(list(pruned.get_submodule("layers").children())) == 2
    assert len(list(pruned.get_submodule("others").children())) == 4
    assert torch.equal(pruned(IMAGE)[-1], full.outputs(IMAGE)[1])


def test_the_plan_remembers_the_named_blocks() -> None:
    full = TwoTowers().eval()
    plan = simpler.select(full, [IMAGE] * 4, blocks="layers", progress=False)
    assert plan.backbone.blocks == "layers"
    assert simpler.prune(full, plan).kept_blocks == plan.kept_blocks


class Stages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(layer(16), layer(16))
        self.second = nn.Sequential(layer(32), layer(32), layer(32))


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3) for _ in range(4))


def fixed_outputs() -> nn.Module:
    module = PlainViT()
    module.out_channels = [32, 32, 32, 32]
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Stages, r"differ in width, as those of hierarchical networks do: first \(2\), second"),
        (Convolutions, "no list of equal transformer blocks"),
        (lambda: nn.Linear(2, 2), "no list of equal transformer blocks"),
        (fixed_outputs, "it has 4 outputs for 6 blocks, and no out_indices"),
        (lambda: PlainViT(depth=1), "no list of equal transformer blocks"),
    ],
)
def test_what_cannot_be_told_is_refused(module: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_family(module())


class FreeViT(PlainViT):
    """Says nothing of its outputs."""

    def __init__(self) -> None:
        super().__init__()
        del self.out_channels


class FixedViT(FreeViT):
    """Looks at fixed places of its list."""

    def forward(self, image: Tensor) -> Any:
        return [out for i, out in enumerate(self.outputs(image)) if i in (1, 2)]


@pytest.mark.parametrize("keep", [2, 4])
def test_outputs_of_another_number_are_an_error(keep: int) -> None:
    with pytest.raises(ValueError, match=r"returns a list \(2 times .* where 6 outputs are"):
        simpler.prune(FixedViT(), keep)


class MoreViT(FreeViT):
    """Returns its features and a loss."""

    def forward(self, image: Tensor) -> Any:
        outputs = self.outputs(image)
        return outputs, outputs[-1].square().mean()


class WithSummary(FreeViT):
    """Returns the tokens of its last block, and their mean."""

    def forward(self, image: Tensor) -> Any:
        tokens = self.outputs(image)[-1]
        return tokens, tokens.mean(dim=1)


class Named(NamedTuple):
    features: list[Tensor]
    norm: Tensor


class NamedViT(FreeViT):
    def forward(self, image: Tensor) -> Any:
        outputs = self.outputs(image)
        return Named(outputs, outputs[-1].norm())


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_what_comes_beside_the_features_is_handed_on(keep: int) -> None:
    for full in (MoreViT().eval(), NamedViT().eval()):
        pruned = simpler.prune(full, keep)
        features, more = pruned(IMAGE)
        expected = full.outputs(IMAGE)[:keep]
        assert len(features) == 6
        assert torch.equal(features[-1], expected[-1])
        assert torch.equal(features[0], expected[0])
        assert more.ndim == 0
        assert more > 0
    assert isinstance(simpler.prune(NamedViT(), keep)(IMAGE), Named)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_an_output_and_what_belongs_to_it_are_not_taken_for_two_outputs(keep: int) -> None:
    full = WithSummary().eval()
    tokens, summary = simpler.prune(full, keep)(IMAGE)
    expected = full.outputs(IMAGE)[keep - 1]
    assert torch.equal(tokens, expected)
    assert torch.equal(summary, expected.mean(dim=1))


class ReadsTwice(FreeViT):
    """Needs two arguments, so that it cannot be tried without knowing more; returns a pair."""

    def forward(self, image: Tensor, other: Tensor | None = None) -> Any:
        assert other is not None
        tokens = self.outputs(image + other)[-1]
        return tokens, tokens.flip(1)


def test_what_cannot_be_told_apart_is_an_error() -> None:
    full = ReadsTwice().eval()
    tokens, flipped = simpler.prune(full, 3)(IMAGE, IMAGE)
    assert torch.equal(flipped, tokens.flip(1))
    with pytest.raises(
        ValueError, match=r"returns a tuple \(2 times a tensor \[2, 4, 32\]\), which"
    ):
        simpler.prune(full, 2)(IMAGE, IMAGE)


def test_kept_outputs_where_every_block_is_listed() -> None:
    full = ChoosingViT().eval()
    full.out_indices = [0, 1, 2, 3, 4, 5]
    full.out_channels = [32] * 6
    pruned = simpler.prune(full, [0, 1, 4], outputs="kept")
    assert pruned.output_blocks == [0, 1, 2]
    assert len(pruned(IMAGE)) == 3


class Around(nn.Module):
    """Holds a backbone of TerraTorch's registry, or several."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        from terratorch.registry import BACKBONE_REGISTRY

        build = BACKBONE_REGISTRY.build
        backbones = [build(name, pretrained=False, img_size=32) for name in names]
        self.backbones = nn.ModuleList(backbones)
        self.projections = nn.ModuleList([None, None])  # type: ignore[list-item]

    def forward(self, image: Tensor) -> Any:
        return [backbone(image)[-1] for backbone in self.backbones]


def test_a_bound_forward_is_a_reason(build: Any) -> None:
    """The full backbone would go on running: its forward is bound to all blocks."""
    del build  # imports TerraTorch
    module = Around("timm_vit_tiny_patch16_224")
    with pytest.raises(ValueError, match=r"forward of backbones.0, which holds .* is bound"):
        simpler.prune(module, 2)


def test_several_backbones_are_a_reason(build: Any) -> None:
    del build
    module = Around("timm_vit_tiny_patch16_224", "timm_vit_tiny_patch16_224")
    with pytest.raises(ValueError, match=r"several backbones \(backbones.0, backbones.1\)"):
        simpler.prune(module, 2)


def test_lists_inside_blocks_are_no_lists_of_blocks() -> None:
    assert list(block_lists(PlainViT())) == ["layers"]
    assert find_blocks(PlainViT()) == "layers"


def test_a_sketch_needs_no_memory() -> None:
    sketch = without_memory(lambda: nn.Sequential(*(nn.Linear(100_000, 100_000) for _ in range(9))))
    assert sum(weight.numel() for weight in sketch.parameters()) > 9e10
    assert all(weight.is_meta for weight in sketch.parameters())


def test_a_trace_leaves_the_module_as_it_is() -> None:
    module = PlainViT()
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    traced = trace(module, list(module.layers), (3, 32, 32))
    assert traced is not None
    assert traced.calls == [((2, 4, 32), (2, 4, 32))] * 6
    assert len(traced.returned) == 6
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())
    assert trace(module, list(module.layers), (5, 32, 32)) is None
