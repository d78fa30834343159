"""A source of tiles that no file of the package knows: a class that inherits from nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor, nn

import terratorch_simpler as simpler
from terratorch_simpler.backbones.backbone import load_backbone
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.selection.select import SelectionWarning
from terratorch_simpler.tiles.sources import TileSource, open_source, with_statistics
from tests.rasters import BANDS, write_tiles

MEANS = [1000.0, 1100.0, 1200.0, 2500.0, 2000.0, 1500.0]
STDS = [200.0, 210.0, 220.0, 400.0, 350.0, 300.0]


class Array:
    """Stands for an array of zarr: chunks are read when they are asked for."""

    def __init__(self, values: NDArray[np.uint16]) -> None:
        self.values, self.reads = values, 0

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, part: slice) -> NDArray[np.uint16]:
        self.reads += 1
        return self.values[part]


@dataclass
class ArrayTiles:
    """Tiles of an array [tiles, bands, height, width]."""

    array: Array
    bands: Sequence[str] | None = field(default_factory=lambda: list(BANDS))
    means: Sequence[float] | None = field(default_factory=lambda: list(MEANS))
    stds: Sequence[float] | None = field(default_factory=lambda: list(STDS))
    source: str = "s3://cubes/summer.zarr"
    samples: int = 40
    seed: int = 7
    dropped: dict[str, int] = field(default_factory=lambda: {"clouds": 2, "nodata": 3})

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self.array), 8):
            part = self.array[slice(start, start + 8)]
            names = [f"summer[{start + i}]" for i in range(len(part))]
            yield {"image": torch.from_numpy(part.astype(np.float32)), "filename": names}


@pytest.fixture
def source() -> ArrayTiles:
    rng = np.random.default_rng(0)
    shape = (50, 6, 32, 32)
    means, stds = (np.array(values)[None, :, None, None] for values in (MEANS, STDS))
    return ArrayTiles(Array(rng.normal(means, stds, shape).clip(0, 10000).astype(np.uint16)))


def plan_of(module: nn.Module, tiles: Any, **options: Any) -> PruningPlan:
    given: dict[str, Any] = {"progress": False, "accelerator": "cpu"} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        return simpler.select(module, tiles, **given)


def normalised(source: ArrayTiles) -> Tensor:
    means, stds = (torch.tensor(values)[None, :, None, None] for values in (MEANS, STDS))
    return (torch.cat([batch["image"] for batch in source]) - means) / stds


def test_a_class_of_its_own_is_a_source_and_so_are_chips(
    source: ArrayTiles, tmp_path: Path
) -> None:
    chips = simpler.GeoTiffTiles(write_tiles(tmp_path, 4), BANDS, size=64)
    sources: list[TileSource] = [source, chips]
    for known in sources:
        assert type(known).__mro__[1:] == (object,)
        assert isinstance(known, TileSource)
    assert not isinstance([normalised(source)], TileSource)


def test_select_normalises_it_and_says_where_it_came_from(
    tiny_prithvi: nn.Module, source: ArrayTiles
) -> None:
    plan = plan_of(tiny_prithvi, source)
    assert plan.tiles.source == "s3://cubes/summer.zarr"
    assert (plan.tiles.used, plan.tiles.seed, plan.tiles.dropped) == (40, 7, 5)
    assert plan.tiles.names == [f"summer[{i}]" for i in range(40)]
    # Five chunks of 8, and the one that Lightning fetches ahead: not all seven.
    assert source.array.reads == 6
    plain = plan_of(tiny_prithvi, [normalised(source)], samples=40, seed=7)
    assert (plain.tiles.source, plain.tiles.dropped) == ("list", 0)
    np.testing.assert_allclose(plan.similarity, plain.similarity, atol=2e-6)
    assert plan.depth == plain.depth


def test_what_a_caller_names_goes_first(tiny_prithvi: nn.Module, source: ArrayTiles) -> None:
    plan = plan_of(tiny_prithvi, source, samples=16, seed=1)
    assert (plan.tiles.used, plan.tiles.seed) == (16, 1)


def test_what_is_no_number_and_no_label(tiny_prithvi: nn.Module, source: ArrayTiles) -> None:
    odd: Any = ArrayTiles(source.array, source=source.array)  # type: ignore[arg-type]
    assert plan_of(tiny_prithvi, odd, samples=16).tiles.source == "ArrayTiles"
    odd.samples = ["a", "b"]
    with pytest.raises(ValueError, match=r"ArrayTiles\.samples is list, .* whole number"):
        plan_of(tiny_prithvi, odd)
    odd.samples = 0
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        plan_of(tiny_prithvi, odd)


def test_only_bands_and_statistics_are_needed(tiny_prithvi: nn.Module, source: ArrayTiles) -> None:
    class Least:
        bands, means, stds = BANDS, MEANS, STDS

        def __iter__(self) -> Iterator[Tensor]:
            return (batch["image"] for batch in source)

    plan = plan_of(tiny_prithvi, Least())
    assert (plan.tiles.source, plan.tiles.used, plan.tiles.seed) == ("Least", 50, 0)
    assert plan.tiles.dropped == 0
    assert plan.depth == plan_of(tiny_prithvi, source, samples=50, seed=0).depth


def test_without_statistics_it_takes_those_of_the_weights(source: ArrayTiles) -> None:
    backbone = load_backbone("prithvi_eo_v2_tiny_tl", pretrained=False, bands=list(BANDS))
    opened = with_statistics(open_source(replace(source, means=None, stds=None), 40, 0), backbone)
    assert (opened.means, opened.stds) == backbone.statistics(list(BANDS))
    bare = replace(source, means=None, stds=None, bands=None)
    opened = with_statistics(open_source(bare, 40, 0), backbone)
    assert (opened.means, opened.stds, opened.bands) == (None, None, None)


def test_without_bands_and_statistics_it_is_normalised_already(
    tiny_prithvi: nn.Module, source: ArrayTiles
) -> None:
    bare = replace(source, means=None, stds=None, bands=None, samples=16)
    wanted = plan_of(tiny_prithvi, [torch.cat([batch["image"] for batch in bare])], samples=16)
    assert plan_of(tiny_prithvi, bare, seed=0).similarity.tolist() == wanted.similarity.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means": MEANS[:5]}, "means has 5 values for 6 bands: give one a band"),
        ({"stds": [0.0] * 6}, "stds must be above 0, got 0.0"),
        ({"means": [float("nan")] * 6}, "means must be finite numbers"),
        ({"stds": None}, "give means and stds together, or neither"),
        (
            {"bands": None, "means": MEANS[:5], "stds": STDS[:5]},
            r"summer.zarr has means and stds for 5 bands, its tiles are {'image': \[6, 32, 32\]}",
        ),
    ],
)
def test_statistics_that_do_not_fit(
    tiny_prithvi: nn.Module, source: ArrayTiles, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plan_of(tiny_prithvi, replace(source, **changes))


def test_a_source_without_tiles(tiny_prithvi: nn.Module, source: ArrayTiles) -> None:
    class Sized(ArrayTiles):
        def __len__(self) -> int:
            return -(-len(self.array) // 8)

    assert plan_of(tiny_prithvi, Sized(source.array)).tiles.used == 40
    nothing = Sized(Array(source.array.values[:0]))
    with pytest.raises(ValueError, match="0 tiles, at least 4 are needed"):
        plan_of(tiny_prithvi, nothing)


def test_a_datamodule_with_statistics_stays_a_datamodule(source: ArrayTiles) -> None:
    class Known(LightningDataModule):
        bands, means, stds = BANDS, MEANS, STDS

        def __iter__(self) -> Iterator[Tensor]:
            raise AssertionError("not asked for")

    assert open_source(Known(), 4, 0).label == "training images of Known"


def test_labels_beside_the_images_can_be_probed(
    tiny_prithvi: nn.Module, source: ArrayTiles
) -> None:
    labels = torch.arange(50) % 2

    class Labelled(ArrayTiles):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            for i, batch in enumerate(super().__iter__()):
                yield batch | {"label": labels[i * 8 : (i + 1) * 8]}

    tiles = Labelled(source.array)
    options: dict[str, Any] = {"task": "classification", "progress": False, "accelerator": "cpu"}
    probed = simpler.probe(tiny_prithvi, tiles, tiles, **options)
    plain = [{"image": normalised(source), "label": labels}]
    wanted = simpler.probe(tiny_prithvi, plain, plain, **options)
    assert (probed.train_tiles, probed.val_tiles) == (50, 50)
    assert probed.scores == pytest.approx(wanted.scores, abs=1e-6)
