"""What several test modules share: a small Prithvi, and plans that agree with themselves."""

from __future__ import annotations

import ctypes
import gc
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from terratorch_simpler.baselines import Matrix
from terratorch_simpler.criteria import CRITERIA, best_depth
from terratorch_simpler.results.plan import BackboneRecord, PruningPlan
from terratorch_simpler.results.tiles import TilesRecord

PathMatrix = Callable[[Sequence[float]], Matrix]
MakePlan = Callable[..., PruningPlan]
Hub = Callable[[str, str, dict[str, Tensor]], None]
TINY = "prithvi_eo_v2_tiny_tl"
LARGE = 1_700_000_000
"""Bytes: TerraTorch alone takes 1.3 GB."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """One thread here and in every process that a test starts.

    Where threads of several processes wait for each other, all of them are many times slower.
    """
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


def free_memory() -> None:
    """Give back what only circles hold: tasks and trainers hold each other, for gigabytes."""
    gc.collect()
    if sys.platform == "linux":
        # The C library keeps what was freed, in pieces; other libraries than glibc may lack this.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


@pytest.fixture(scope="module", autouse=True)
def _memory_of_a_module() -> Iterator[None]:
    yield
    free_memory()
    # What is left are libraries and what the session shares: half a second each time to go through.
    gc.freeze()


def _is_large() -> bool:
    """Whether this process holds more than it should for long, or the system does not tell."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        return True
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > LARGE


@pytest.fixture(autouse=True)
def _memory_of_a_slow_test(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    node = request.node
    if (node.get_closest_marker("slow") or node.get_closest_marker("long")) and _is_large():
        free_memory()


@pytest.fixture(scope="session")
def build() -> Callable[..., Any]:
    """TerraTorch's own way to build a backbone, with seeded weights and in eval mode."""
    from terratorch.registry import BACKBONE_REGISTRY

    def build(name: str = TINY, seed: int = 0, **arguments: Any) -> Any:
        torch.manual_seed(seed)
        return BACKBONE_REGISTRY.build(name, **{"img_size": 32} | arguments).eval()

    return build


@pytest.fixture(scope="session")
def tiny_prithvi(build: Callable[..., Any]) -> nn.Module:
    """An untrained Prithvi of 12 blocks and 4 patches. Tests must leave it as it is."""
    module: nn.Module = build()
    return module


@pytest.fixture(scope="session")
def images() -> Tensor:
    """Two images for the small Prithvi."""
    return torch.randn(2, 6, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def path_matrix() -> PathMatrix:
    """Similarity of a path on the circle: cosine of the angle between any two layers."""

    def matrix(moves: Sequence[float]) -> Matrix:
        angles = np.concatenate([[0.0], np.cumsum(moves)])
        return np.asarray(np.round(np.cos(angles[:, None] - angles[None, :]), 6))

    return matrix


@pytest.fixture(scope="session")
def make_plan(path_matrix: PathMatrix) -> MakePlan:
    """Plans without a pass over tiles: the path moves for ``moving`` blocks, then stands still."""

    def make(moving: int = 4, total: int = 12, **backbone: Any) -> PruningPlan:
        similarity = path_matrix([0.2] * moving + [0.0] * (total - moving))
        scores = CRITERIA["simpler"](similarity)
        depth = best_depth(scores)
        record = {
            "name": TINY,
            "arguments": {"pretrained": True, "bands": ["BLUE", "RED"]},
            "family": "Prithvi",
            "blocks": "blocks",
            "depth": total,
            "width": 192,
            "parameters": 5_400_000,
            "kept_parameters": 2_000_000,
            "pretrained": True,
            "fingerprint": "0" * 64,
        }
        return PruningPlan(
            depth=depth,
            total_depth=total,
            kept_blocks=list(range(depth)),
            criterion="simpler",
            pooling="tokens",
            tokens=16,
            confidence=0.75,
            depth_shares={depth: 0.75, depth + 1: 0.25},
            stabilizes=True,
            scores=scores,
            others={"stabilization": [0, 1, 2], "uniform": [3, 7, 11]},
            similarity=similarity.tolist(),
            backbone=BackboneRecord(**record | backbone),
            tiles=TilesRecord(
                source="tiles",
                names=["a.tif", "b.tif"],
                used=2,
                dropped=0,
                seed=0,
                tiles_per_group=16,
            ),
            versions={"torch": torch.__version__},
        )

    return make


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Puts files into an empty Hugging Face cache; nothing else can be reached."""
    from huggingface_hub import constants

    cache = tmp_path_factory.mktemp("hub")

    def refuse(*_args: Any) -> None:
        raise AssertionError("a test reached for the network")

    def put(repository: str, filename: str, weights: dict[str, Tensor]) -> None:
        folder = cache / f"models--{repository.replace('/', '--')}"
        revision = "0123456789abcdef0123456789abcdef01234567"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(revision)
        (folder / "snapshots" / revision).mkdir(parents=True)
        torch.save(weights, folder / "snapshots" / revision / filename)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(socket.socket, "connect", refuse)
        yield put
