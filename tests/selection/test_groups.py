from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from terratorch_simpler.backbones.backbone import load_backbone
from terratorch_simpler.layers.sampler import LayerSampler
from terratorch_simpler.selection.groups import TILES_PER_GROUP, GroupStream
from terratorch_simpler.tiles import Pooling


def alone(samples: Tensor | None, _source: int) -> Tensor | None:
    """What one process gives itself."""
    return samples


@pytest.fixture(scope="module")
def grouped(
    build: Callable[..., Any],
) -> Callable[[Pooling, int], dict[int, Tensor]]:
    backbone = load_backbone(build("prithvi_eo_tiny"))
    tiles = torch.randn(19, 6, 64, 64, generator=torch.Generator().manual_seed(3))

    def groups(pooling: Pooling, batch: int) -> dict[int, Tensor]:
        stream = GroupStream(4)
        found: dict[int, Tensor] = {}
        with LayerSampler(backbone, pooling, 3, seed=0) as sampler:
            for start in range(0, len(tiles), batch):
                part = tiles[start : start + batch]
                found |= dict(stream.add(sampler(part, range(start, start + len(part)))))
        return found | dict(stream.finish(len(tiles), alone))

    return groups


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("pooling", TILES_PER_GROUP)
def test_forward_batch_size_changes_no_group_and_no_token(
    grouped: Callable[[Pooling, int], dict[int, Tensor]], pooling: Pooling, batch: int
) -> None:
    groups, expected = grouped(pooling, batch), grouped(pooling, 16)
    assert len(groups) > 3
    torch.testing.assert_close(groups, expected, rtol=1e-4, atol=1e-4)


def numbered(tiles: int, samples: int) -> Tensor:
    """Samples that hold the number of their tile: [2 layers, tiles, samples, 1]."""
    numbers = torch.arange(tiles, dtype=torch.float32)[None, :, None, None]
    return numbers.expand(2, tiles, samples, 1)


def flat(groups: Iterable[tuple[int, Tensor]]) -> dict[int, Tensor]:
    """Groups by number, [layers, samples, width]."""
    return {number: group.flatten(1, 2) for number, group in groups}


def cut(tiles: int, samples: int, batch: int = 5, world: int = 1) -> dict[int, Tensor]:
    """Groups of 4 tiles by number, cut by some processes that run one after the other."""
    streams = [GroupStream(4, rank, world) for rank in range(world)]
    found: dict[int, Tensor] = {}
    held: dict[int, Tensor | None] = {}
    for rank, stream in enumerate(streams):
        for part in torch.split(torch.arange(tiles), batch):
            own = [int(place) for place in part if stream.owns(int(place))]
            if own:
                found |= flat(stream.add(numbered(tiles, samples)[:, own]))
        held[rank] = stream._waiting
    for stream in streams:
        found |= flat(stream.finish(tiles, lambda _samples, source: held[source]))
    return found


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize(
    ("tiles", "samples", "sizes"),
    [
        # Tokens: two tiles of 16 are enough for a group of their own, one tile is not.
        (3, 16, [3]),
        (4, 16, [4]),
        (5, 16, [5]),
        (6, 16, [4, 2]),
        (8, 16, [4, 4]),
        (9, 16, [4, 5]),
        (11, 16, [4, 4, 3]),
        # Two samples a tile: two tiles make just four samples.
        (6, 2, [4, 2]),
        # Means: four tiles are needed.
        (6, 1, [6]),
        (7, 1, [7]),
        (8, 1, [4, 4]),
        (11, 1, [4, 7]),
        (12, 1, [4, 4, 4]),
        (33, 1, [4] * 7 + [5]),
    ],
)
def test_rest_is_a_group_where_it_is_enough_and_else_joins_the_last(
    tiles: int, samples: int, sizes: list[int], batch: int, world: int
) -> None:
    groups = cut(tiles, samples, batch, world)
    assert [groups[i].shape[1] // samples for i in range(len(groups))] == sizes
    together = torch.cat([groups[i] for i in range(len(groups))], dim=1)
    assert torch.equal(together, numbered(tiles, samples).flatten(1, 2))


def test_every_tile_has_one_process() -> None:
    streams = [GroupStream(4, rank, 3) for rank in range(3)]
    owners = [[stream.owns(place) for stream in streams].index(True) for place in range(16)]
    assert owners == [0] * 4 + [1] * 4 + [2] * 4 + [0] * 4
    assert all(sum(stream.owns(place) for stream in streams) == 1 for place in range(40))


def test_no_tiles_make_no_group() -> None:
    assert list(GroupStream(4).finish(0, alone)) == []


def test_tiles_with_other_numbers_of_samples_are_refused() -> None:
    stream = GroupStream(4)
    assert len(list(stream.add(numbered(4, 16)))) == 1
    with pytest.raises(ValueError, match="some tiles have 9 patch tokens, others at least 16"):
        list(stream.add(numbered(2, 9)))
