"""Selection against other packages for layer similarity: same backbone, tiles and layers.

They come with the dependency group ``benchmark``. Each compares the outputs of all blocks, with
whole flattened images of one batch as samples; one of them, pytorch-cka, with the estimator that is
used here, so that the matrices can be compared.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.ratios import ratio
from benchmarks.selection import BATCH, SIZE, sample, selecting
from terratorch_simpler.precision import full_float32
from terratorch_simpler.selection.groups import TILES_PER_GROUP
from terratorch_simpler.similarity import LayerSimilarity

TILES, FEW_TILES = 64, 16
"""Few for those that take many times as long as a forward pass."""

Batches = list[Tensor]


def measure() -> Iterator[tuple[str, Any]]:
    """How many times as long as ``select`` others take, and how far one's matrix is from ours."""
    backbone, chips = sample()
    module = backbone.module.eval()
    layers = [f"blocks.{block}" for block in range(backbone.depth)]
    many, few = (_batches(torch.randn(tiles, 6, SIZE, SIZE)) for tiles in (TILES, FEW_TILES))
    theirs = _quiet(partial(pytorch_cka, module, many, layers))
    for pooling in TILES_PER_GROUP:
        ours = selecting(backbone, many, pooling)
        yield f"pytorch_cka_over_select_{pooling}", ratio(theirs, ours)
    ours = partial(of_whole_images, module, many, layers)
    yield "pytorch_cka_over_ours_on_whole_images", ratio(theirs, ours)
    ours = selecting(backbone, few, "tokens")
    for peer in (torch_cka, ckatorch, cka_pytorch):
        slow = _quiet(partial(peer, module, few, layers))
        yield f"{peer.__name__}_over_select_tokens", ratio(slow, ours)
    images = torch.cat([batch["image"] for batch in chips])
    real = _batches((images - images.mean((0, 2, 3), True)) / images.std((0, 2, 3), keepdim=True))
    difference = pytorch_cka(module, real, layers) - of_whole_images(module, real, layers)
    yield "largest_difference_to_pytorch_cka", difference.abs().max().item()
    packages = ("pytorch-cka", "torch-cka", "ckatorch", "cka-pytorch")
    yield "versions", {name: version(name) for name in packages}


def of_whole_images(module: nn.Module, batches: Batches, layers: list[str]) -> Tensor:
    """Our similarity under their definition: a group is a batch, a sample a flattened image."""
    metric, outputs = LayerSimilarity(len(layers)), []
    hooks = [
        module.get_submodule(layer).register_forward_hook(
            lambda _module, _inputs, output: outputs.append(output.flatten(1))
        )
        for layer in layers
    ]
    with torch.inference_mode():
        for batch in batches:
            outputs.clear()
            module(batch)
            metric.update(outputs)
    for hook in hooks:
        hook.remove()
    return metric.compute()


def pytorch_cka(module: nn.Module, batches: Batches, layers: list[str]) -> Tensor:
    """Their matrix, [layers, layers]."""
    from cka import compute_cka

    (matrix,) = compute_cka(module, module, _loader(batches), layers=layers, progress=False)
    return torch.as_tensor(matrix)


def torch_cka(module: nn.Module, batches: Batches, layers: list[str]) -> Tensor:
    """Their matrix, [layers, layers]."""
    from torch_cka import CKA

    with torch.inference_mode(), _hooks_removed(module):
        cka = CKA(module, module, model1_layers=layers, model2_layers=layers)
        cka.compare(_loader(batches))
    return torch.as_tensor(cka.hsic_matrix)


def ckatorch(module: nn.Module, batches: Batches, layers: list[str]) -> Tensor:
    """Their matrix, [layers, layers], from one pass instead of the ten that they make."""
    from ckatorch import CKA

    # Named, since it would guess the name from a forward that is no method here.
    loader: DataLoader[Any] = DataLoader([{"x": batch} for batch in batches], batch_size=None)  # type: ignore[arg-type]
    with _hooks_removed(module):
        return torch.as_tensor(CKA(module, module, layers)(loader, epochs=1))


def cka_pytorch(module: nn.Module, batches: Batches, layers: list[str]) -> Tensor:
    """Their matrix, [layers, layers], from one pass instead of the ten that they make."""
    from cka_pytorch import CKACalculator

    with _hooks_removed(module):
        calculator = CKACalculator(module, module, model1_layers=layers, verbose=False)
        pairs = [(batch, None) for batch in batches]
        return torch.as_tensor(calculator.calculate_cka_matrix(pairs, num_epochs=1))


def _batches(tiles: Tensor) -> Batches:
    return list(torch.split(tiles, BATCH))


def _loader(batches: Batches) -> DataLoader[Any]:
    """Hands the batches over as they are, each in a tuple of one."""
    return DataLoader([(batch,) for batch in batches], batch_size=None)  # type: ignore[arg-type]


@contextlib.contextmanager
def _hooks_removed(module: nn.Module) -> Any:
    """Two of them leave their hooks in the backbone."""
    yield
    for layer in module.modules():
        layer._forward_hooks.clear()


def _quiet(function: Callable[[], object]) -> Callable[[], object]:
    # As `select` computes, whatever importing TerraTorch has set.
    @full_float32()
    def run() -> object:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function()

    return run
