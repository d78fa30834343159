"""A pass does not wait for a GPU batch by batch: what is measured stays on the device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.backbones.families import find_family
from terratorch_simpler.layers.statistics import LayerStatistics
from terratorch_simpler.selection.thumbnails import Thumbnails
from terratorch_simpler.similarity import LayerAngles, LayerSimilarity, centered_grams
from terratorch_simpler.tiles.sources import open_source
from terratorch_simpler.tiles.tile_pass import TilePass
from terratorch_simpler.tiles.units import InputStatistics

LAYERS, TILES, TOKENS, WIDTH = 5, 4, 16, 32


class _Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation that reads a value on the host, or copies between it and the device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        used = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        # A number such as a band's mean lies on the host and goes along with the operation.
        devices = {tensor.device.type for tensor in used if tensor.ndim}
        if "local_scalar" in str(func) or len(devices) > 1:
            self.seen.append(str(func))
        return out


@contextlib.contextmanager
def imitated_gpu() -> Iterator[_Waits]:
    """Everything runs on a GPU that is only imitated: no number is computed."""
    with FakeTensorMode(allow_non_fake_inputs=True), _Waits() as noted:
        yield noted


@pytest.fixture(scope="module", autouse=True)
def _gpu_can_be_imitated() -> None:
    try:
        with FakeTensorMode():
            torch.ones(2, device="cuda")[[0]]
    except RuntimeError as error:
        pytest.skip(f"this torch imitates no GPU where there is none: {error}")


def test_that_waiting_is_noticed() -> None:
    with imitated_gpu() as waits:
        torch.ones(3, device="cuda").cpu()
        assert len(waits.seen) == 1


def test_a_group_is_added_without_waiting() -> None:
    similarity, angles = LayerSimilarity(LAYERS), LayerAngles(LAYERS)
    statistics = LayerStatistics(LAYERS)
    with imitated_gpu() as waits:
        for metric in (similarity, angles, statistics):
            metric.to("cuda")
        layers = torch.randn(LAYERS, TILES * TOKENS, WIDTH, device="cuda")
        anchors = torch.randn(LAYERS, TILES, 4, WIDTH, device="cuda")
        partners = torch.randn(LAYERS, TILES, 4, 4, WIDTH, device="cuda")
        waits.seen.clear()
        # RankMe is that of group 0 alone, on the CPU.
        for group in (1, 2, 2):
            grams = centered_grams(layers.unbind())
            statistics.update(grams, anchors, partners, group)
            similarity.add_grams(grams, group)
            angles.update(layers.unbind())
        assert similarity.group_terms().device.type == "cuda"
    assert waits.seen == []


def test_a_batch_is_looked_at_without_waiting() -> None:
    names = [f"{i}.tif" for i in range(8)]
    thumbnails = Thumbnails(["BLUE", "GREEN", "RED", "NIR", "SWIR_1", "SWIR_2"])
    statistics = InputStatistics([0.0] * 6, [1.0] * 6)
    with imitated_gpu() as waits:
        images = torch.randn(8, 6, 32, 32, device="cuda")
        # Means and stds go to the device once.
        statistics.update(images, names)
        waits.seen.clear()
        statistics.update(images, names)
        thumbnails.update(images, names)
    assert waits.seen == []


def test_batches_are_copied_from_pinned_memory(
    tiny_prithvi: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[Tensor] = []

    def pin(tensor: Tensor) -> Tensor:
        pinned.append(tensor)
        return tensor

    # There is no memory to pin without a GPU.
    monkeypatch.setattr(Tensor, "pin_memory", pin)
    backbone = Backbone(tiny_prithvi, *find_family(tiny_prithvi))
    tile_pass = TilePass(backbone, open_source([torch.ones(4, 6, 32, 32)], None, 0))
    with imitated_gpu():
        image = torch.ones(4, 6, 32, 32)
        batch = {"image": image, "filename": ["a.tif"] * 4}
        sent = tile_pass.transfer_batch_to_device(batch, torch.device("cuda"), 0)
        assert (sent["image"].device.type, sent["filename"]) == ("cuda", ["a.tif"] * 4)
        assert tile_pass.transfer_batch_to_device(batch, torch.device("cpu"), 0) == batch
    assert pinned == [image]
