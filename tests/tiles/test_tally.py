"""What is said of tiles that were left out: nothing goes in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.tiles import LeftOut, TakenFor, TilesRecord
from terratorch_simpler.results.wording import (
    doubts,
    scaling_sentence,
    tiles_sentence,
    warnings_of,
)
from terratorch_simpler.tiles.chips import TOO_SMALL
from terratorch_simpler.tiles.geotiff import GeoTiffTiles
from terratorch_simpler.tiles.scenes import APART
from terratorch_simpler.tiles.valid import FILL, NO_DATA
from tests.conftest import MakePlan
from tests.rasters import BANDS, CORNER, landscape, write_band_files, write_raster, write_tiles

RGB = BANDS[:3]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes, of which four cannot be used, each for a reason of its own."""
    folder = tmp_path_factory.mktemp("mixed")
    write_tiles(folder, 8, bands=3, size=64)
    write_raster(folder / "small.tif", landscape(3, 20))
    write_raster(folder / "empty.tif", np.zeros((3, 64, 64)))
    write_raster(folder / "filled.tif", np.full((3, 64, 64), 1234.0))
    image = landscape(3, 64)
    write_band_files(folder, "apart", {"B02": image[0], "B03": image[1]}, 64)
    far = (CORNER[0] + 90_000, CORNER[1])
    write_band_files(folder, "apart", {"B04": image[2]}, 64, corner=far)
    half = landscape(3, 64, seed=9)
    half[:, :32] = 0
    write_raster(folder / "tile_0.tif", half)
    return folder


def read(tiles: GeoTiffTiles) -> list[str]:
    return [name for batch in tiles for name in batch["filename"]]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:os.fork", "ignore:.*multi-threaded, use of fork")
def test_everything_left_out_is_counted_and_scenes_are_named(mixed: Path, workers: int) -> None:
    tiles = GeoTiffTiles(mixed, RGB, size=32, num_workers=workers)
    names = read(tiles)
    assert len(names) == 30
    # Half of a tile that was used otherwise, and two whole scenes of four chips.
    assert tiles.dropped == {TOO_SMALL: 1, APART: 1, NO_DATA: 2 + 4, FILL: 4}
    left = {one.reason: (one.chips, one.scenes) for one in tiles.tally.left_out()}
    assert left == {
        TOO_SMALL: (0, ["small.tif"]),
        APART: (0, ["apart"]),
        NO_DATA: (2, ["empty.tif"]),
        FILL: (0, ["filled.tif"]),
    }
    reading = tiles.reading(names)
    assert (reading["scenes"], reading["other_files"]) == (8, 0)


def test_strict_makes_the_first_of_them_an_error(mixed: Path) -> None:
    with pytest.raises(ValueError, match=r"^strict lets nothing be left out, and \S+ would be \("):
        read(GeoTiffTiles(mixed, RGB, size=32, strict=True))
    assert (
        len(read(GeoTiffTiles(mixed / "tile_*.tif", RGB, size=64, min_valid=0.4, strict=True))) == 8
    )


def record(**fields: object) -> TilesRecord:
    given = {"source": "tiles", "names": [], "used": 512, "dropped": 0, "seed": 0}
    return TilesRecord.model_validate(given | {"tiles_per_group": 16} | fields)


def test_one_sentence_says_it() -> None:
    assert tiles_sentence(record()) == "512 tiles used, none left out."
    several = [f"scene_{i}" for i in range(7)]
    left = [
        LeftOut(reason=NO_DATA, chips=1, scenes=["a.tif"]),
        LeftOut(reason=APART, chips=0, scenes=several),
    ]
    assert tiles_sentence(record(scenes=37, left_out=left, other_files=24)) == (
        "512 tiles of 37 scenes used, left out: 1 chip and 1 scene (a.tif) mostly nodata; 7 scenes "
        "(scene_0, scene_1, scene_2, scene_3, scene_4 and 2 more) with band files that do not lie "
        "on each other; 24 files beside the bands not read."
    )


def test_folders_without_permission_are_left_out() -> None:
    closed = [f"/archive/{name}" for name in "abcdefg"]
    assert tiles_sentence(record(closed_folders=closed[:1])) == (
        "512 tiles used, left out: 1 folder (/archive/a) that may not be opened."
    )
    named = "/archive/a, /archive/b, /archive/c, /archive/d, /archive/e and 2 more"
    assert f"7 folders ({named}) that may not be opened" in tiles_sentence(
        record(closed_folders=closed)
    )


def test_scales_and_offsets_are_said() -> None:
    assert scaling_sentence(record()) == ""
    taken = [
        TakenFor(scenes=2, bands={}),
        TakenFor(scenes=1, bands={}, scaling="scale 0.1, offset 0"),
    ]
    assert scaling_sentence(record(taken_for=taken)) == (
        "none in 2 scenes, scale 0.1, offset 0 in 1 scene"
    )
    assert scaling_sentence(record(taken_for=taken[:1])) == ""


def test_files_that_declare_different_offsets_are_a_doubt(make_plan: MakePlan) -> None:
    """Half of the products from before processing baseline 04.00, say."""
    plan = make_plan()
    offset = "offset -1000 (processing baseline 04.00)"
    taken = [TakenFor(scenes=8, bands={}), TakenFor(scenes=4, bands={}, scaling=offset)]
    for count in (1, 2):
        tiles = plan.tiles.model_copy(update={"taken_for": taken[:count]})
        found = doubts(plan.model_copy(update={"tiles": tiles}))
        said = [doubt for doubt in found if "do not declare one scale and offset" in doubt]
        assert len(said) == count - 1
    assert f"(none in 8 scenes, {offset} in 4 scenes): bring all of them to the same" in said[0]


def test_a_plan_keeps_its_warnings(make_plan: MakePlan) -> None:
    plan = make_plan().model_copy(update={"warnings": ["the tiles look like decibels"]})
    assert warnings_of(PruningPlan.from_json(plan.to_json(), "plan")) == plan.warnings
    old = plan.model_copy(update={"warnings": None})
    assert "warnings" not in old.to_json()
    assert warnings_of(old) == doubts(old) != []
