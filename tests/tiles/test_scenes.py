"""Files in long lists, and where only GDAL can look."""

from __future__ import annotations

import multiprocessing
import os
import re
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.shutil import copy as copy_raster

from scripts.make_archive import make_archive
from terratorch_simpler.tiles.find import find_rasters, name_below
from terratorch_simpler.tiles.geotiff import GeoTiffTiles
from terratorch_simpler.tiles.products import find_scenes
from tests.rasters import BANDS, landscape, write_band_files, write_tiles

pytestmark = pytest.mark.filterwarnings("ignore:os.fork", "ignore:.*multi-threaded, use of fork")


def names(tiles: Any) -> list[str]:
    """What the rasters found are called in plans."""
    found = find_rasters(tiles)
    files, root = found.files, found.root
    return [name_below(file, root) for file in files]


def read(tiles: Any, **how: Any) -> dict[str, NDArray[np.float32]]:
    """Images by the name of their file."""
    return {
        name.partition("[")[0]: image.numpy()
        for batch in GeoTiffTiles(tiles, BANDS, size=64, **how)
        for name, image in zip(batch["filename"], batch["image"], strict=True)
    }


def assert_same(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert list(given) == list(wanted)
    for name, image in wanted.items():
        np.testing.assert_array_equal(given[name], image)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of folders: 6 tiles in a/0 and b."""
    folder = tmp_path_factory.mktemp("shards")
    write_tiles(folder / "a" / "0", 4)
    write_tiles(folder / "b", 2)
    return folder


ALL = [*(f"a/0/tile_{i}.tif" for i in range(4)), "b/tile_0.tif", "b/tile_1.tif"]


# List files


def write_list(file: Path, *lines: str | Path) -> Path:
    file.write_text("\n".join(map(str, lines)))
    return file


def test_a_list_file_is_read_like_the_folder(shards: Path) -> None:
    listing = write_list(shards / "all.txt", *reversed(ALL))
    assert_same(read(listing), read(shards))
    assert_same(read(str(listing)), read(shards))
    assert GeoTiffTiles(listing, BANDS, size=64).source == str(listing)


def test_lines_of_a_list_file(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments, blank lines, folders, and paths from the list's folder, absolute or twice."""
    listing = write_list(
        shards / "b" / "some.txt",
        *("# tiles of 2020", "", "  tile_0.tif  ", "../a", shards / "b" / "tile_1.tif"),
        *("tile_0.tif", shards / "b" / "tile_0.tif"),
    )
    monkeypatch.chdir(tmp_path)
    found = find_rasters(listing)
    files, root = found.files, found.root
    assert [Path(file).resolve().relative_to(shards).as_posix() for file in files] == ALL
    assert root == f"{shards / 'b'}/"
    monkeypatch.chdir(shards)
    assert names("b/some.txt") == [file.removeprefix(root) for file in files]


def test_what_a_list_file_names_is_missing(shards: Path) -> None:
    listing = write_list(shards / "gone.txt", *(f"gone_{i}.tif" for i in range(5)), *ALL)
    with pytest.raises(
        FileNotFoundError,
        match=r"no such tiles: gone_0.tif, gone_1.tif, gone_2.tif and 2 more, named in .*gone.txt",
    ):
        find_rasters(listing)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"list.txt names no tiles: write one path a line"),
        (b"# nothing\n\n", r"list.txt names no tiles"),
        (b"a/0/tile_0.tif\nlist.txt\n", r"list.txt in .*list.txt is no raster: .*\.tif"),
        (b"\xff\xfe\x00\x01", r"list.txt is not a list of paths in UTF-8"),
    ],
)
def test_a_list_file_of_something_else(shards: Path, content: bytes, message: str) -> None:
    (shards / "list.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        find_rasters(shards / "list.txt")


def test_lists_in_python(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"no raster \(.*\) in the list of tiles"):
        find_rasters([])
    monkeypatch.chdir(shards / "b")
    # The same file as a relative and an absolute path.
    assert names(["tile_0.tif", shards / "b" / "tile_0.tif", "./tile_1.tif"]) == [
        "tile_0.tif",
        "tile_1.tif",
    ]
    assert names(["tile_0.tif", shards / "a"]) == [*ALL[:4], ALL[4]]
    assert names(".") == ["tile_0.tif", "tile_1.tif"]


# Folders


def test_links_in_a_folder(shards: Path, tmp_path: Path) -> None:
    """Linked files and folders are read, each once; circles and broken links are not."""
    (tmp_path / "tile.tif").symlink_to(shards / "b" / "tile_0.tif")
    (tmp_path / "broken.tif").symlink_to(tmp_path / "gone.tif")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "disk").symlink_to(shards / "a")
    (tmp_path / "disk_again").symlink_to(shards / "a")
    assert names(tmp_path) == [*(f"disk/0/tile_{i}.tif" for i in range(4)), "tile.tif"]


def test_a_folder_that_may_not_be_read_is_said(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(folder: str) -> Iterator[Any]:
        if folder.endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return real(folder)

    real = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    assert names(shards) == ALL[4:]
    tiles = GeoTiffTiles(shards, BANDS, size=32)
    assert tiles.reading([])["closed_folders"] == [f"{shards}/a"]
    with pytest.raises(ValueError, match=r"strict lets .*/a may not be opened"):
        GeoTiffTiles(shards, BANDS, size=32, strict=True)
    with pytest.raises(ValueError, match=r"no raster .* where .*/a may not be opened"):
        find_rasters(shards / "a")


def test_an_archive_of_many_files(tmp_path: Path) -> None:
    written = make_archive(tmp_path / "archive", files=5_000, distinct=8, folders=20, size=64)
    listing = write_list(tmp_path / "archive.txt", *(f"archive/{name}" for name in written))
    assert names(tmp_path / "archive") == names(listing) == written
    assert len({name.partition("/")[0] for name in written}) == 20
    start = time.perf_counter()
    assert len(find_scenes(find_rasters(listing).files).scenes) == 5_000
    assert time.perf_counter() - start < 5
    chosen = read(listing, samples=40)
    assert_same(read(tmp_path / "archive", samples=40, num_workers=2), chosen)
    assert len({image.tobytes() for image in chosen.values()}) == 8


# What GDAL opens


def test_virtual_rasters(shards: Path, tmp_path: Path) -> None:
    for name in ALL:
        target = tmp_path / Path(name).with_suffix(".vrt")
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_raster(shards / name, target, driver="VRT")
    plain = read(shards)
    assert_same(
        {name.replace(".vrt", ".tif"): image for name, image in read(tmp_path).items()}, plain
    )


@pytest.fixture(scope="module")
def zipped(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = tmp_path_factory.mktemp("zip") / "tiles.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for name in ALL:
            target.write(shards / name, name)
    return archive


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", ["/vsizip/{}/", "zip://{}!"])
def test_files_in_a_zip(
    shards: Path, zipped: Path, tmp_path: Path, start: str, workers: int
) -> None:
    paths = [start.format(zipped) + name for name in ALL]
    plain = list(read(shards).values())
    for tiles in (paths, write_list(tmp_path / "zipped.txt", *paths)):
        assert all(map(str.endswith, names(tiles), ALL))
        for given, wanted in zip(read(tiles, num_workers=workers).values(), plain, strict=True):
            np.testing.assert_array_equal(given, wanted)


def test_one_file_in_a_zip(zipped: Path) -> None:
    path = f"/vsizip/{zipped}/{ALL[0]}"
    assert names(path) == ["tile_0.tif"]
    assert len(list(GeoTiffTiles(path, BANDS, size=16))) == 2
    with pytest.raises(ValueError, match=r"/vsizip/.*/gone.tif is not a raster that GDAL can read"):
        GeoTiffTiles(f"/vsizip/{zipped}/gone.tif", BANDS, size=16)


def test_files_on_disk_beside_files_in_a_zip(shards: Path, zipped: Path) -> None:
    paths = [f"/vsizip/{zipped}/{ALL[0]}", str(shards / "a")]
    assert len(read(paths)) == 5


def test_band_files_in_a_zip(tmp_path: Path) -> None:
    image = landscape(3, 64)
    files = write_band_files(
        tmp_path, "field", dict(zip(["B02", "B03", "B04"], image, strict=True)), 64
    )
    with zipfile.ZipFile(tmp_path / "bands.zip", "w") as target:
        for file in files:
            target.write(file, file.name)
    paths = [f"/vsizip/{tmp_path}/bands.zip/{file.name}" for file in files]
    tiles = GeoTiffTiles(paths, BANDS[:3], size=32)
    (batch,) = tiles
    assert sorted(name.partition("[")[0] for name in batch["filename"]) == ["field"] * 4


class RangeHandler(SimpleHTTPRequestHandler):
    """Serves parts of files, and keeps connections open, as storage in the cloud does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        data = path.read_bytes() if path.is_file() else b""
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        part = data[int(asked[1]) : int(asked[2]) + 1] if asked else data
        self.send_response(206 if part and asked else 200 if part else 404)
        if asked and part:
            end = int(asked[1]) + len(part) - 1
            self.send_header("Content-Range", f"bytes {asked[1]}-{end}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *arguments: Any) -> None:
        """Nothing: the output of tests is for tests."""


@pytest.fixture(scope="module")
def server(shards: Path) -> Iterator[str]:
    """Address of the shards. In a process of its own: rasterio opens files with the GIL held."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(RangeHandler, directory=shards)) as http:
        process = multiprocessing.get_context("fork").Process(
            target=http.serve_forever, daemon=True
        )
        process.start()
    yield f"http://127.0.0.1:{http.server_port}"
    process.terminate()
    process.join()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", ["/vsicurl/", ""])
def test_files_on_a_server(
    server: str, shards: Path, tmp_path: Path, start: str, workers: int
) -> None:
    paths = [f"{start}{server}/{name}" for name in ALL]
    listing = write_list(tmp_path / "remote.txt", "# on a server", *paths)
    plain = read(shards)
    for tiles in (paths, listing):
        assert_same(read(tiles, num_workers=workers), plain)
    assert len(list(GeoTiffTiles(paths[0], BANDS, size=16))) == 2


def test_workers_do_not_share_a_connection(server: str, shards: Path) -> None:
    # A new query in each round: what GDAL remembers of a file would need no connection.
    for round_ in range(3):
        with rasterio.open(f"/vsicurl/{server}/{ALL[0]}?{round_}") as source:
            source.read()
        paths = [f"/vsicurl/{server}/{name}?{round_}" for name in ALL]
        # What may be a signature does not get into names, and so not into plans.
        assert list(read(paths, num_workers=2, batch_size=1)) == list(read(shards))


def test_a_file_that_a_server_does_not_have(server: str) -> None:
    path = f"/vsicurl/{server}/gone.tif"
    with pytest.raises(ValueError, match=r"/vsicurl/http://.*gone.tif is not a raster .*404"):
        GeoTiffTiles(path, BANDS, size=64)
    paths = [f"/vsicurl/{server}/{name}" for name in ALL]
    with pytest.raises(ValueError, match=r"gone.tif is not a raster .*404"):
        read([*paths, f"/vsicurl/{server}/zzz/gone.tif"], num_workers=2)
