"""Products of 32 bits are exact in a process that was set to less, as TerraTorch sets it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import terratorch_simpler as simpler
from terratorch_simpler.backbones.backbone import load_backbone
from terratorch_simpler.layers.sampler import LayerSampler
from terratorch_simpler.precision import full_float32
from terratorch_simpler.selection.select import SelectionWarning
from terratorch_simpler.similarity import LayerAngles, centered_grams

COMPUTES = (torch.mm, torch.matmul, Tensor.matmul, nn.functional.linear, torch.conv2d, torch.conv3d)
MEDIUM, FULL = ("medium", True), ("highest", False)


def setting() -> tuple[str, bool]:
    """Of products, and whether convolutions may be TF32."""
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


class Watch(TorchFunctionMode):
    """Records under what settings float32 matrices are multiplied and images convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, bool]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in COMPUTES and args[0].dtype == torch.float32:
            self.seen.append(setting())
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _medium() -> Iterator[None]:
    before = setting()
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
        assert setting() == MEDIUM
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_an_error_leaves_what_was_set() -> None:
    def fail() -> None:
        with full_float32():
            assert setting() == FULL
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert setting() == MEDIUM


def test_grams_and_angles() -> None:
    layers = [torch.randn(8, 5) for _ in range(3)]
    with Watch() as watch:
        centered_grams(layers)
        LayerAngles(3).update(layers)
    assert watch.seen == [FULL] * 4


def test_the_layers_of_a_backbone(tiny_prithvi: nn.Module, images: Tensor) -> None:
    backbone = load_backbone(tiny_prithvi)
    with Watch() as watch, LayerSampler(backbone, "mean", 1, seed=0) as sampler:
        sampler(images, range(2))
    # Its patch embedding, and four products in every block.
    assert watch.seen == [FULL] * (1 + 4 * backbone.depth)


def test_a_selection_and_a_probe(tiny_prithvi: nn.Module) -> None:
    tiles = [{"image": torch.randn(8, 6, 32, 32), "mask": torch.randn(8, 32, 32)} for _ in "ab"]
    options: dict[str, Any] = {"accelerator": "cpu", "progress": False}
    with Watch() as watch:
        with pytest.warns(SelectionWarning, match="16 tiles"):
            simpler.select(tiny_prithvi, tiles, **options)
        selected = len(watch.seen)
        simpler.probe(tiny_prithvi, tiles, tiles, task="regression", **options)
    assert 0 < selected < len(watch.seen)
    assert set(watch.seen) == {FULL}
