from __future__ import annotations

import pytest
import torch

from terratorch_simpler.backbones.pruned import PrunedBackbone
from tests.conftest import TINY
from tests.upstream.swap import FACTORIES, Mode, Swap
from tests.upstream.weights import MOST, draw_less


@pytest.fixture
def swap(monkeypatch: pytest.MonkeyPatch) -> Swap:
    """Installed for one test."""
    from terratorch.registry import BACKBONE_REGISTRY, MODEL_FACTORY_REGISTRY

    for owner in (BACKBONE_REGISTRY, *(MODEL_FACTORY_REGISTRY[name] for name in FACTORIES)):
        name = "build" if owner is BACKBONE_REGISTRY else "build_model"
        monkeypatch.setattr(owner, name, getattr(owner, name))
    swap = Swap()
    swap.install()
    return swap


@pytest.mark.parametrize(("mode", "blocks"), [("third", 1), ("uncut", 3)])
def test_the_registry_builds_pruned_backbones(swap: Swap, mode: Mode, blocks: int) -> None:
    from terratorch.registry import BACKBONE_REGISTRY

    swap.start(mode)
    module = BACKBONE_REGISTRY.build(TINY, img_size=32, depth=3)

    assert isinstance(module, PrunedBackbone)
    assert module.kept_blocks == list(range(blocks))
    assert (swap.asked, swap.built) == ([TINY], [f"simpler_{TINY}"])


def test_unmodified_backbones_are_counted_and_left(swap: Swap) -> None:
    from terratorch.registry import BACKBONE_REGISTRY

    swap.start("unmodified")
    module = BACKBONE_REGISTRY.build(TINY, img_size=32)

    assert not isinstance(module, PrunedBackbone)
    assert (swap.asked, swap.built) == ([TINY], [])


def test_names_that_cannot_be_cut_stay(swap: Swap) -> None:
    from terratorch.registry import BACKBONE_REGISTRY

    swap.start("third")
    BACKBONE_REGISTRY.build("timm_resnet18", pretrained=False)

    assert (swap.asked, swap.built) == ([], [])
    assert "convolutional" in swap.left["timm_resnet18"]


@pytest.mark.parametrize("how", ["prefixed", "backbone_kwargs"])
def test_factories_are_given_the_pruned_name(swap: Swap, how: str) -> None:
    from terratorch.models import EncoderDecoderFactory

    arguments = {"img_size": 32, "depth": 6}
    given = (
        {"backbone_kwargs": arguments}
        if how == "backbone_kwargs"
        else {f"backbone_{key}": value for key, value in arguments.items()}
    )
    swap.start("third")
    model = EncoderDecoderFactory().build_model(
        "classification", TINY, "IdentityDecoder", num_classes=2, **given
    )

    assert len(list(model.get_submodule("encoder.blocks").children())) == 2
    # Asked once: what the factory asks the registry for is the pruned name already.
    assert (swap.asked, swap.built) == ([TINY], [f"simpler_{TINY}"])


def test_what_the_full_backbone_refuses_is_asked_of_the_pruned_one(swap: Swap) -> None:
    from terratorch.registry import BACKBONE_REGISTRY

    swap.start("third")
    with pytest.raises(ValueError, match="could not be built"):
        BACKBONE_REGISTRY.build(TINY, img_size="wide")

    assert (swap.asked, swap.built) == ([TINY], [])


@pytest.fixture
def _drawing_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "uniform_", torch.Tensor.uniform_)
    draw_less()


@pytest.mark.usefixtures("_drawing_less")
@pytest.mark.parametrize("count", [7, MOST, MOST + 1, 3 * MOST, 3 * MOST + 5])
def test_large_tensors_repeat_what_was_drawn(count: int) -> None:
    drawn = torch.full((count,), 9.0).uniform_(-1, 2)

    assert -1 <= drawn.min() < drawn.max() < 2
    assert torch.equal(drawn[MOST:], drawn[: count - MOST] if count > MOST else drawn[MOST:])


@pytest.mark.usefixtures("_drawing_less")
def test_every_tensor_is_drawn_anew_and_seeded() -> None:
    torch.manual_seed(0)
    first, second = torch.empty(2, MOST).uniform_(), torch.empty(2, MOST).uniform_()

    assert not torch.equal(first, second)
    assert torch.equal(first[0], first[1])
    torch.manual_seed(0)
    assert torch.equal(torch.empty(2, MOST).uniform_(), first)
