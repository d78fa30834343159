from __future__ import annotations

import multiprocessing
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from terratorch_simpler.tiles.find import find_rasters
from terratorch_simpler.tiles.geotiff import GeoTiffTiles
from terratorch_simpler.tiles.products import find_scenes
from terratorch_simpler.tiles.scenes import Pixels
from terratorch_simpler.tiles.valid import clean
from tests.rasters import (
    BANDS,
    CORNER,
    corner,
    landscape,
    read,
    truncate,
    write_band_files,
    write_raster,
    write_tiles,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning", "ignore:os.fork"
)

TWELVE = [
    *("COASTAL_AEROSOL", "BLUE", "GREEN", "RED", "RED_EDGE_1", "RED_EDGE_2", "RED_EDGE_3"),
    *("NIR_BROAD", "NIR_NARROW", "WATER_VAPOR", "SWIR_1", "SWIR_2"),
]


def window(folder: Path, name: str, size: int, indexes: list[int] | None = None) -> NDArray[Any]:
    """The same chip as rasterio reads it."""
    scene, row, column = corner(name)
    with rasterio.open(folder / scene) as source:
        return np.asarray(source.read(indexes, window=Window(column, row, size, size)))


def scenes(names: dict[str, Any] | list[str]) -> list[str]:
    return [corner(name)[0] for name in names]


# Layouts


def test_stacked_files(tmp_path: Path) -> None:
    tiles = GeoTiffTiles(write_tiles(tmp_path, 5), BANDS, size=64)
    images = read(tiles)
    assert sorted(images) == [f"tile_{i}.tif[0:64,0:64]" for i in range(5)]
    for name, image in images.items():
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, window(tmp_path, name, 64))
    assert tiles.dropped == {}


def test_dataset_bands_say_what_the_files_hold(tmp_path: Path) -> None:
    write_tiles(tmp_path, 4, bands=12)
    images = read(GeoTiffTiles(tmp_path, BANDS, TWELVE, size=64))
    for name, image in images.items():
        np.testing.assert_array_equal(image, window(tmp_path, name, 64, [2, 3, 4, 9, 11, 12]))


def test_band_descriptions(tmp_path: Path) -> None:
    write_tiles(tmp_path, 4, bands=7, descriptions=["B12", "QA", "B8A", "B04", "B03", "B02", "B11"])
    images = read(GeoTiffTiles(tmp_path, BANDS, size=64))
    for name, image in images.items():
        np.testing.assert_array_equal(image, window(tmp_path, name, 64, [6, 5, 4, 3, 7, 1]))


@pytest.mark.parametrize("crs", ["EPSG:32633", None])
def test_bands_come_in_the_order_asked_for(tmp_path: Path, crs: str | None) -> None:
    write_tiles(tmp_path, 4, crs=crs)
    order = ["SWIR_2", "BLUE", "RED"]
    images = read(GeoTiffTiles(tmp_path, order, BANDS, size=64))
    for name, image in images.items():
        np.testing.assert_array_equal(image, window(tmp_path, name, 64, [6, 1, 3]))


def test_one_file_a_band_of_different_resolution(tmp_path: Path) -> None:
    fine, coarse = landscape(4, 128, seed=1), landscape(3, 64, seed=2)
    held = {"B02": fine[0], "B03": fine[1], "B04": fine[2], "B08": fine[3]}
    held |= {"B8A": coarse[0], "B11": coarse[1], "B12": coarse[2]}
    write_band_files(tmp_path, "T33UUU_20200821T100559", held, pixels=128)
    images = read(GeoTiffTiles(tmp_path, BANDS, size=64))
    assert len(images) == 4
    for name, image in images.items():
        scene, row, column = corner(name)
        assert scene.startswith("T33UUU_20200821T100559")
        np.testing.assert_array_equal(image[:3], fine[:3, row : row + 64, column : column + 64])
        # Bands of 20 m are resampled to the grid of the 10 m bands, between their neighbours.
        near = coarse[:, row // 2 : row // 2 + 32, column // 2 : column // 2 + 32]
        mean = image[3:].reshape(3, 32, 2, 32, 2).mean(axis=(2, 4))
        assert abs(mean - near).max() < 0.5 * near.std()
        assert np.corrcoef(mean.ravel(), near.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("scene", ["HLS.L30.T33UUU.2020234T100601.v2.0", "LC08_L2SP_193023_SR"])
def test_landsat_band_files(tmp_path: Path, scene: str) -> None:
    image = landscape(6, 128)
    codes = ["B02", "B03", "B04", "B05", "B06", "B07"]
    codes = codes if scene.startswith("HLS") else [code.replace("0", "") for code in codes]
    write_band_files(tmp_path, scene, dict(zip(codes, image, strict=True)), 128, resolution=30.0)
    for name, chip in read(GeoTiffTiles(tmp_path, BANDS, size=64)).items():
        _, row, column = corner(name)
        np.testing.assert_array_equal(chip, image[:, row : row + 64, column : column + 64])


def test_band_files_named_by_word_and_dataset_bands(tmp_path: Path) -> None:
    image = landscape(3, 128)
    named = dict(zip(["BLUE", "NIR_NARROW", "RED"], image, strict=True))
    write_band_files(tmp_path, "field", named, 128)
    for held in (None, ["BLUE", "NIR_NARROW", "RED"]):
        tiles = GeoTiffTiles(tmp_path, ["RED", "BLUE"], held, size=64)
        for name, chip in read(tiles).items():
            _, row, column = corner(name)
            box = np.s_[row : row + 64, column : column + 64]
            np.testing.assert_array_equal(chip, np.stack([image[2][box], image[0][box]]))


def test_band_files_without_a_place_on_the_map(tmp_path: Path) -> None:
    """They lie on each other where they are of one size."""
    image = landscape(3, 128)
    named = dict(zip(["B02", "B03", "B04"], image, strict=True))
    write_band_files(tmp_path, "field", named, 128, crs=None)
    for name, chip in read(GeoTiffTiles(tmp_path, BANDS[:3], size=64)).items():
        _, row, column = corner(name)
        np.testing.assert_array_equal(chip, image[:, row : row + 64, column : column + 64])
    write_band_files(tmp_path, "field", {"B04": landscape(1)[0]}, 64, crs=None)
    with pytest.raises(ValueError, match=r"field has no coordinate system, and its band files"):
        GeoTiffTiles(tmp_path, BANDS[:3], size=64)


def test_scenes_of_band_files_and_stacks_side_by_side(tmp_path: Path) -> None:
    write_tiles(tmp_path, 2, bands=3)
    for scene in ("a", "b"):
        named = dict(zip(["B02", "B03", "B04"], landscape(3), strict=True))
        write_band_files(tmp_path, scene, named, 64)
    files = find_rasters(tmp_path).files
    groups = find_scenes(files).scenes
    assert [len(group.files) for group in groups] == [3, 3, 1, 1]
    assert len(read(GeoTiffTiles(tmp_path, BANDS[:3], size=64))) == 4


# Chips of a large scene


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"crs": None},
        {"corner": (399_963.7, 5_800_004.3), "resolution": 3.3},
        {"crs": "EPSG:32733", "corner": (399_960.0, -5_800_020.0), "resolution": 30.0},
        {"crs": "EPSG:4326", "corner": (13.123456789, 52.3), "resolution": 8.983152841195215e-05},
        {"crs": "EPSG:4326", "corner": (13.1, 52.3), "resolution": (0.0001347, 0.0000898315)},
    ],
    ids=["utm", "no crs", "odd metres", "south", "degrees", "oblong pixels"],
)
def test_chips_are_windows_of_the_scene(tmp_path: Path, place: dict[str, Any]) -> None:
    write_raster(tmp_path / "scene.tif", landscape(3, 231, 323, seed=3), **place)
    images = read(GeoTiffTiles(tmp_path, BANDS[:3], size=50))
    corners = {corner(name)[1:] for name in images}
    assert corners == {(row, column) for row in range(0, 200, 50) for column in range(0, 300, 50)}
    for name, image in images.items():
        np.testing.assert_array_equal(image, window(tmp_path, name, 50))


@pytest.mark.parametrize("layout", ["south up", "turned", "crs only"])
def test_grids_that_are_not_north_up(tmp_path: Path, layout: str) -> None:
    write_raster(tmp_path / "scene.tif", landscape(3, 128), crs=None)
    transform = {
        "south up": rasterio.Affine(10, 0, CORNER[0], 0, 10, CORNER[1]),
        "turned": rasterio.Affine(9, 3, CORNER[0], 3, -9, CORNER[1]),
        "crs only": None,
    }[layout]
    with rasterio.open(tmp_path / "scene.tif", "r+") as target:
        target.crs = "EPSG:32633"
        if transform is not None:
            target.transform = transform
    images = read(GeoTiffTiles(tmp_path, BANDS[:3], size=64))
    assert len(images) == 4
    for name, image in images.items():
        np.testing.assert_array_equal(image, window(tmp_path, name, 64))


def test_overlapping_tiles_are_not_mixed(tmp_path: Path) -> None:
    write_tiles(tmp_path, 4, corner=CORNER)
    for name, image in read(GeoTiffTiles(tmp_path, BANDS, size=64)).items():
        np.testing.assert_array_equal(image, window(tmp_path, name, 64))


def test_tiles_of_different_zones_are_not_warped(tmp_path: Path) -> None:
    for zone in (31, 32, 33, 34):
        image = landscape(3, 64, seed=zone)
        write_raster(tmp_path / f"zone_{zone}.tif", image, crs=f"EPSG:326{zone}")
    for name, image in read(GeoTiffTiles(tmp_path, BANDS[:3], size=64)).items():
        np.testing.assert_array_equal(image, window(tmp_path, name, 64))


# What can be named as tiles


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nested")
    write_tiles(folder / "north" / "a", 2, bands=3)
    write_tiles(folder / "south", 3, bands=3)
    (folder / "south" / "readme.txt").write_text("not a raster")
    (folder / "south" / "tile_0.tif.aux.xml").write_text("<PAMDataset/>")
    return folder


@pytest.mark.parametrize(
    ("choose", "names"),
    [
        (
            lambda folder: folder,
            [*(f"north/a/tile_{i}.tif" for i in range(2)), *(f"south/tile_{i}.tif" for i in "012")],
        ),
        (
            str,
            [
                *("north/a/tile_0.tif", "north/a/tile_1.tif"),
                *(f"south/tile_{i}.tif" for i in "012"),
            ],
        ),
        (lambda folder: folder / "south" / "tile_1.tif", ["tile_1.tif"]),
        (
            lambda folder: [folder / "south" / "tile_2.tif", str(folder / "north")],
            ["north/a/tile_0.tif", "north/a/tile_1.tif", "south/tile_2.tif"],
        ),
        (
            lambda folder: f"{folder}/*/tile_*.tif",
            ["tile_0.tif", "tile_1.tif", "tile_2.tif"],
        ),
        (
            lambda folder: f"{folder}/**/tile_[01].tif",
            [
                *("north/a/tile_0.tif", "north/a/tile_1.tif"),
                *("south/tile_0.tif", "south/tile_1.tif"),
            ],
        ),
    ],
    ids=["folder", "text", "file", "list", "glob", "deep glob"],
)
def test_folder_file_list_and_glob(nested: Path, choose: Any, names: list[str]) -> None:
    found = find_rasters(choose(nested))
    files, root = found.files, found.root
    assert [file.removeprefix(root) for file in files] == names
    small = 16 if len(names) < 4 else 64
    assert set(scenes(read(GeoTiffTiles(choose(nested), BANDS[:3], size=small)))) == set(names)


def test_the_order_of_a_list_changes_nothing(nested: Path) -> None:
    files = sorted(nested.rglob("*.tif"))
    twice = [*reversed(files), *files]
    assert list(read(GeoTiffTiles(twice, BANDS[:3], size=64))) == list(
        read(GeoTiffTiles(files, BANDS[:3], size=64))
    )


def test_a_folder_with_a_glob_character_in_its_name(tmp_path: Path) -> None:
    folder = write_tiles(tmp_path / "2020[v1]", 4)
    assert len(read(GeoTiffTiles(str(folder), BANDS, size=64))) == 4


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing", FileNotFoundError, "no such folder or file of tiles: .*missing"),
        (["missing.tif"], FileNotFoundError, "no such tiles: missing.tif"),
        ("empty", ValueError, "no raster .*tif.* in .*empty"),
        ("nothing*.tif", ValueError, r"no raster .* in .*nothing\*"),
    ],
)
def test_nothing_to_read(
    tmp_path: Path, name: str | list[str], error: type[Exception], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=message):
        GeoTiffTiles(tmp_path / name if isinstance(name, str) else name, BANDS)


# The choice


@pytest.fixture(scope="module")
def three_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of 6 chips of 32 px."""
    folder = tmp_path_factory.mktemp("scenes")
    for index in range(3):
        write_raster(folder / f"scene_{index}.tif", landscape(3, 64, 96, seed=index))
    return folder


def choice(folder: Path, **how: Any) -> list[str]:
    return list(read(GeoTiffTiles(folder, BANDS[:3], size=32, **how)))


def test_the_same_seed_chooses_the_same_chips(three_scenes: Path) -> None:
    tiles = GeoTiffTiles(three_scenes, BANDS[:3], size=32, samples=9, seed=4)
    first = list(read(tiles))
    assert list(read(tiles)) == first
    assert choice(three_scenes, samples=9, seed=4) == first
    assert choice(three_scenes, samples=9, seed=5) != first


def test_the_choice_spreads_over_scenes(three_scenes: Path) -> None:
    names = choice(three_scenes, samples=9)
    assert Counter(scenes(names)) == {f"scene_{i}.tif": 3 for i in range(3)}
    assert all(len(set(scenes(names[i : i + 3]))) == 3 for i in (0, 3, 6))
    assert len({corner(name)[1:] for name in names}) > 3


def test_a_smaller_choice_is_the_beginning_of_a_larger_one(three_scenes: Path) -> None:
    assert choice(three_scenes, samples=18)[:7] == choice(three_scenes, samples=7)


def test_scenes_of_different_size_are_used_up(tmp_path: Path) -> None:
    write_raster(tmp_path / "large.tif", landscape(3, 128))
    write_raster(tmp_path / "small.tif", landscape(3, 32))
    names = choice(tmp_path, samples=10)
    assert Counter(scenes(names)) == {"large.tif": 9, "small.tif": 1}
    assert len(set(names)) == 10


def test_all_there_is_where_samples_asks_for_more(three_scenes: Path) -> None:
    names = choice(three_scenes, samples=100)
    assert len(names) == len(set(names)) == 18


@pytest.mark.parametrize("how", [{"batch_size": 1}, {"batch_size": 5}, {"num_workers": 2}])
def test_batches_and_workers_change_nothing(three_scenes: Path, how: dict[str, int]) -> None:
    wanted = read(GeoTiffTiles(three_scenes, BANDS[:3], size=32, samples=11))
    given = read(GeoTiffTiles(three_scenes, BANDS[:3], size=32, samples=11, **how))  # type: ignore[arg-type]
    assert list(given) == list(wanted)
    for name, image in given.items():
        np.testing.assert_array_equal(image, wanted[name])


@pytest.mark.parametrize(("samples", "sizes"), [(12, [4, 4, 4]), (10, [4, 4, 2]), (4, [4])])
def test_all_batches_but_the_last_are_full(
    three_scenes: Path, samples: int, sizes: list[int]
) -> None:
    tiles = GeoTiffTiles(three_scenes, BANDS[:3], size=32, samples=samples, batch_size=4)
    assert [len(batch["image"]) for batch in tiles] == sizes
    assert len(tiles) == len(sizes)


def expected_choice(grids: dict[str, tuple[int, int]], size: int, seed: int) -> list[str]:
    """Every chip by the rule: scenes in a seeded order, the first chip of each, then the second,
    a scene's own chips in an order seeded by its place among the sorted names."""
    names = sorted(grids)
    rounds: dict[int, list[str]] = {}
    for index in np.random.default_rng(seed).permutation(len(names)):
        height, width = grids[names[index]]
        corners = [
            (row, column)
            for row in range(0, height - size + 1, size)
            for column in range(0, width - size + 1, size)
        ]
        shuffled = np.random.default_rng([seed, index]).permutation(len(corners))
        for turn, (row, column) in enumerate(corners[i] for i in shuffled):
            box = f"[{row}:{row + size},{column}:{column + size}]"
            rounds.setdefault(turn, []).append(names[index] + box)
    return [name for turn in sorted(rounds) for name in rounds[turn]]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[int, int]]]:
    """Scenes of 0 to 12 chips of 32 px, and their heights and widths."""
    folder = tmp_path_factory.mktemp("uneven")
    shapes = [(130, 96), (20, 90), (64, 40), (33, 33), (31, 31), (32, 100), (70, 70)]
    grids = {f"{'ab'[i % 2]}/scene_{i}.tif": shape for i, shape in enumerate(shapes)}
    for seed, (name, shape) in enumerate(grids.items()):
        write_raster(folder / name, landscape(3, *shape, seed=seed))
    return folder, grids


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("samples", [4, 6, 500])
@pytest.mark.parametrize("seed", [0, 7])
def test_the_choice_follows_the_rule(
    uneven: tuple[Path, dict[str, tuple[int, int]]], seed: int, samples: int, workers: int
) -> None:
    folder, grids = uneven
    names = choice(folder, samples=samples, seed=seed, num_workers=workers, batch_size=3)
    assert names == expected_choice(grids, 32, seed)[:samples]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_chips_of_the_rule_replace_dropped_ones(tmp_path: Path, workers: int) -> None:
    empty = {"tile_1.tif", "tile_4.tif", "tile_6.tif"}
    grids = {f"tile_{i}.tif": (64, 64) for i in range(9)}
    for seed, name in enumerate(grids):
        write_raster(tmp_path / name, landscape(3, 64, seed=seed) * (name not in empty))
    tiles = GeoTiffTiles(tmp_path, BANDS[:3], size=32, samples=15, num_workers=workers)
    usable = [name for name in expected_choice(grids, 32, 0) if corner(name)[0] not in empty]
    assert list(read(tiles)) == usable[:15]
    visited = expected_choice(grids, 32, 0)
    dropped = [n for n in visited[: visited.index(usable[14])] if corner(n)[0] in empty]
    assert tiles.dropped == {"mostly nodata": len(dropped)}


def test_only_the_chosen_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiles(tmp_path, 30)
    opened: set[str] = set()
    rasterio_open = rasterio.open

    def count(path: str, *arguments: Any, **how: Any) -> Any:
        opened.add(Path(path).name)
        return rasterio_open(path, *arguments, **how)

    monkeypatch.setattr(rasterio, "open", count)
    tiles = GeoTiffTiles(tmp_path, BANDS, size=64, samples=8, batch_size=4)
    # The first file stands for all of them.
    assert opened == {"tile_0.tif"}
    batches = iter(tiles)
    chosen = scenes(next(batches)["filename"])
    assert opened == {"tile_0.tif", *chosen}
    chosen += scenes([name for batch in batches for name in batch["filename"]])
    assert len(chosen) == 8
    assert opened == {"tile_0.tif", *chosen}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("crs", [pytest.param("EPSG:32633", marks=pytest.mark.slow), None])
def test_no_file_stays_open(tmp_path: Path, crs: str | None, workers: int) -> None:
    first = write_tiles(tmp_path, 1, size=32, crs=crs) / "tile_0.tif"
    for index in range(1, 300):
        (tmp_path / f"tile_{index}.tif").hardlink_to(first)
    tiles = GeoTiffTiles(tmp_path, BANDS, size=32, num_workers=workers)
    batches = iter(tiles)
    next(batches)
    processes = ["self", *(str(child.pid) for child in multiprocessing.active_children())]
    folders = [Path(f"/proc/{process}/fd") for process in processes]
    before = [len(list(folder.iterdir())) for folder in folders]
    for _ in range(30):
        next(batches)
    after = [len(list(folder.iterdir())) for folder in folders]
    assert len(folders) == 1 + workers
    assert all(late <= early + 4 for early, late in zip(before, after, strict=True))


def test_tiles_can_be_sent_to_another_process(three_scenes: Path) -> None:
    tiles = GeoTiffTiles(three_scenes, BANDS[:3], size=32, samples=5)
    wanted = list(read(tiles))
    assert list(read(pickle.loads(pickle.dumps(tiles)))) == wanted


# Invalid pixels


def with_hole(value: float, rows: int, seed: int = 0) -> NDArray[np.float32]:
    image = landscape(3, 64, seed=seed)
    image[:, :rows] = value
    return image


@pytest.mark.parametrize(
    ("value", "how", "reason"),
    [
        (0, {}, "mostly nodata"),
        (0, {"crs": None}, "mostly nodata"),
        (65535, {"nodata": 65535}, "mostly nodata"),
        (-9999, {"nodata": -9999, "dtype": "int16"}, "mostly nodata"),
        (-9999, {"nodata": -9999, "dtype": "float32", "crs": None}, "mostly nodata"),
        (np.nan, {"dtype": "float32"}, "mostly NaN or infinite"),
        (np.nan, {"dtype": "float32", "nodata": np.nan}, "mostly NaN or infinite"),
        (np.inf, {"dtype": "float32"}, "mostly NaN or infinite"),
    ],
)
def test_chips_without_data_are_dropped_and_counted(
    tmp_path: Path, value: float, how: dict[str, Any], reason: str
) -> None:
    for index in range(7):
        image = with_hole(value, 32 if index in (2, 5) else 0, seed=index)
        write_raster(tmp_path / f"tile_{index}.tif", image, **how)
    tiles = GeoTiffTiles(tmp_path, BANDS[:3], size=64)
    assert sorted(scenes(read(tiles))) == [f"tile_{i}.tif" for i in (0, 1, 3, 4, 6)]
    assert tiles.dropped == {reason: 2}
    read(tiles)
    assert tiles.dropped == {reason: 2}


@pytest.mark.parametrize(
    ("value", "how"),
    [
        (0, {}),
        (65535, {"nodata": 65535}),
        (np.nan, {"dtype": "float32"}),
        (-np.inf, {"dtype": "float32"}),
    ],
)
def test_small_gaps_are_filled_with_the_mean(
    tmp_path: Path, value: float, how: dict[str, Any]
) -> None:
    for index in range(4):
        write_raster(tmp_path / f"tile_{index}.tif", with_hole(value, 4, seed=index), **how)
    tiles = GeoTiffTiles(tmp_path, BANDS[:3], size=64)
    for name, image in read(tiles).items():
        whole = window(tmp_path, name, 64)[:, 4:].astype(np.float32)
        np.testing.assert_array_equal(image[:, 4:], whole)
        for filled, band in zip(image[:, :4], whole, strict=True):
            np.testing.assert_allclose(filled, band.mean(), rtol=1e-5)
    assert tiles.dropped == {}


def test_dropped_chips_are_replaced(tmp_path: Path) -> None:
    for index in range(12):
        write_raster(tmp_path / f"t_{index}.tif", with_hole(0, 64 * (index % 2), seed=index))
    tiles = GeoTiffTiles(tmp_path, BANDS[:3], size=64, samples=6, batch_size=4)
    sizes = [len(batch["image"]) for batch in tiles]
    assert sizes == [4, 2]
    assert set(tiles.dropped) == {"mostly nodata"}


@pytest.mark.parametrize(("min_valid", "used"), [(1.0, 4), (0.9, 5), (0.5, 6), (0.0, 6)])
def test_min_valid_sets_what_counts_as_empty(tmp_path: Path, min_valid: float, used: int) -> None:
    for index, rows in enumerate([0, 0, 0, 0, 5, 32, 64]):
        write_raster(tmp_path / f"tile_{index}.tif", with_hole(0, rows, seed=index))
    tiles = GeoTiffTiles(tmp_path, BANDS[:3], size=64, min_valid=min_valid)
    images = read(tiles)
    assert len(images) == used
    assert tiles.dropped == {"mostly nodata": 7 - used}
    assert all(np.isfinite(image).all() for image in images.values())


def test_a_pixel_is_nodata_where_any_band_is(tmp_path: Path) -> None:
    image = landscape(3, 8)
    image[1, 0, 0] = 65535
    filled, problem = clean(Pixels(image, (image != 65535).all(axis=0)), 0.9)
    assert problem is None
    assert filled[0, 0, 0] == pytest.approx(image[0].ravel()[1:].mean(), rel=1e-5)
    dark = landscape(3, 8)
    dark[1, 0, 0] = 0
    np.testing.assert_array_equal(clean(Pixels(dark, np.ones((8, 8), bool)), 0.9)[0], dark)


def test_tiles_smaller_than_a_chip_are_left_out_and_counted(tmp_path: Path) -> None:
    write_tiles(tmp_path / "a", 4)
    write_tiles(tmp_path / "b", 2, size=48)
    tiles = GeoTiffTiles(tmp_path, BANDS, size=64)
    assert len(read(tiles)) == 4
    assert tiles.dropped == {"smaller than a chip": 2}


def test_every_tile_is_smaller_than_a_chip(tmp_path: Path) -> None:
    tiles = GeoTiffTiles(write_tiles(tmp_path, 5, size=48), BANDS, size=64)
    with pytest.raises(
        ValueError, match=r"every scene is smaller than a chip of 64 x 64 px \(tile"
    ):
        read(tiles)


def test_too_few_usable_chips(tmp_path: Path) -> None:
    for index, rows in enumerate([0, 0, 0, 64, 64]):
        write_raster(tmp_path / f"tile_{index}.tif", with_hole(0, rows, seed=index))
    message = r"3 usable chips in .*, at least 4 are needed \(dropped: 2 mostly nodata\)"
    with pytest.raises(ValueError, match=message):
        read(GeoTiffTiles(tmp_path, BANDS[:3], size=64))


# Damaged files


@pytest.mark.parametrize("how", [{}, {"num_workers": 2}], ids=["here", "in workers"])
@pytest.mark.parametrize("crs", ["EPSG:32633", None])
def test_a_truncated_file_is_named(tmp_path: Path, crs: str | None, how: dict[str, int]) -> None:
    write_tiles(tmp_path, 6, crs=crs)
    truncate(tmp_path / "tile_3.tif")
    tiles = GeoTiffTiles(tmp_path, BANDS, size=64, **how)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^tile_3.tif could not be read .*truncated") as caught:
        read(tiles)
    assert "Traceback" not in str(caught.value)


def test_a_file_that_is_no_raster_is_named(tmp_path: Path) -> None:
    write_tiles(tmp_path, 6)
    (tmp_path / "tile_0.tif").write_text("not a raster")
    with pytest.raises(ValueError, match=r"tile_0.tif is not a raster that GDAL can read"):
        GeoTiffTiles(tmp_path, BANDS, size=64)


def test_one_file_with_other_bands_is_named(tmp_path: Path) -> None:
    write_tiles(tmp_path, 5)
    write_raster(tmp_path / "tile_3.tif", landscape(4))
    with pytest.raises(ValueError, match=r"tile_3.tif holds 4 bands and 6 are asked for"):
        read(GeoTiffTiles(tmp_path, BANDS, size=64))


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bands": ["RED", "RED"]}, "bands names RED more than once"),
        ({"samples": 3}, "samples must be at least 4, got 3"),
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"min_valid": 1.5}, "min_valid must be from 0 to 1, got 1.5"),
        ({"means": [0.0]}, "means has 1 values for 6 bands"),
        ({"stds": [1.0] * 7}, "stds has 7 values for 6 bands"),
        ({"stds": [1.0] * 5 + [0.0]}, "stds must be above 0, got 0"),
        ({"stds": [1.0] * 5 + [np.nan]}, "stds must be finite numbers"),
        ({"means": [1.0] * 5 + [np.inf]}, "means must be finite numbers"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    write_tiles(tmp_path, 1)
    defaults: dict[str, Any] = {"bands": BANDS, "size": 64}
    with pytest.raises(ValueError, match=message):
        GeoTiffTiles(tmp_path, **defaults | arguments)


def test_its_repr_says_bands_tiles_and_size(tmp_path: Path) -> None:
    write_tiles(tmp_path / "tiles", count=4)
    tiles = GeoTiffTiles(tmp_path / "tiles", BANDS, size=64, samples=100)
    assert repr(tiles).splitlines() == [
        f"GeoTiffTiles: up to 100 tiles of 64 x 64 px from 4 scenes in {tmp_path / 'tiles'}",
        f"  6 bands: {', '.join(BANDS)}",
    ]
