"""Finding raster files: in folders, archives, globs and lists, and where only GDAL can look."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from terratorch_simpler.tiles.archives import RASTERS, is_archive, is_raster, members, outside


def only_gdal(path: str) -> bool:
    """Whether only GDAL can open a path: ``/vsizip/...``, ``https://...``, ``s3://...``.

    Such a path stays text: pathlib would make one slash of two.
    """
    # torchgeo's path_is_vsi says the same, but takes seconds to import.
    return path.startswith("/vsi") or "://" in path


@dataclass(frozen=True)
class Rasters:
    """Raster files that were found.

    Attributes:
        files: Their paths, sorted by name; those on disk are absolute.
        root: What all paths begin with: the rest is what they are called in plans
            (:func:`name_below`).
        closed: Folders that may not be looked into.
    """

    files: list[str]
    root: str
    closed: list[str]


def find_rasters(tiles: str | Path | Iterable[str | Path]) -> Rasters:
    """Raster files of a folder (and its subfolders), file, glob or list, sorted by name.

    Args:
        tiles: As :class:`~terratorch_simpler.tiles.geotiff.GeoTiffTiles` takes them.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If there is no raster, or a list names something else.
    """
    where = str(tiles) if isinstance(tiles, str | Path) else "the list of tiles"
    paths, listed = _paths(tiles)
    files: set[str] = set()
    folders: list[str] = []
    others: list[str] = []
    closed: list[str] = []
    for path in paths:
        # In this order, so that each of many files is looked up only once.
        if is_archive(path):
            folders.append(outside(path))
            files.update(filter(is_raster, members(path)))
        elif only_gdal(path) or (is_raster(path) and Path(path).is_file()):
            files.add(path)
        elif Path(path).is_dir():
            folders.append(path)
            files.update(_walk(path, set(), closed))
        else:
            others.append(path)
    if listed:
        _check_listed({path: paths[path] for path in others}, where)
    if not files:
        shut = f", where {', '.join(closed)} may not be opened" if closed else ""
        raise ValueError(f"no raster ({', '.join(RASTERS)}) in {where}{shut}")
    if len(paths) > 1 or not folders:
        folders = [outside(file).rpartition("/")[0] for file in files]
    return Rasters(sorted(files), _shared(set(folders)), closed)


def name_below(path: str, root: str) -> str:
    """What a file is called in plans: its path below what all have in common."""
    name = outside(path).removeprefix(root) or path.rpartition("/")[2]
    # What follows is often a signature, which has no place in a plan.
    return name.partition("?")[0] if only_gdal(path) else name


def _paths(tiles: str | Path | Iterable[str | Path]) -> tuple[dict[str, str], bool]:
    """Each path once, as it is opened and as it was given; and whether somebody listed them."""
    if not isinstance(tiles, str | Path):
        return {_absolute(path): str(path) for path in tiles}, True
    if only_gdal(str(tiles)):
        return {str(tiles): str(tiles)}, False
    if Path(tiles).is_file() and Path(tiles).suffix.lower() == ".txt":
        return _read_list(Path(tiles)), True
    if Path(tiles).exists():
        return {_absolute(tiles): str(tiles)}, False
    if glob.has_magic(str(tiles)):
        found = glob.glob(str(tiles), recursive=True)  # noqa: PTH207
        return {_absolute(path): path for path in found}, False
    raise FileNotFoundError(f"no such folder or file of tiles: {tiles}")


def _read_list(file: Path) -> dict[str, str]:
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a list of paths in UTF-8: {error}") from error
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise ValueError(f"{file} names no tiles: write one path a line")
    return {_absolute(line, file.parent): line for line in lines}


def _absolute(path: str | Path, folder: Path = Path()) -> str:
    given = str(path)
    return given if only_gdal(given) else (folder / given).absolute().as_posix()


def _check_listed(others: Mapping[str, str], where: str) -> None:
    """Refuse what a list names beside rasters and folders.

    Args:
        others: As they were given, by absolute path.
        where: The list, for the message.
    """
    missing = [given for path, given in others.items() if not Path(path).exists()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise FileNotFoundError(
            f"no such tiles: {', '.join(missing[:3])}{more}, named in {where} (relative paths "
            "start from the folder of a list file, otherwise from the working directory)"
        )
    if others:
        raise ValueError(
            f"{next(iter(others.values()))} in {where} is no raster: name folders, archives and "
            f"files that end in {', '.join(RASTERS)}"
        )


def _walk(folder: str, seen: set[str], closed: list[str]) -> Iterator[str]:
    """Raster files below a folder, in linked folders and archives as well.

    Args:
        folder: Where to look.
        seen: Folders that were looked into, without links: each is once, so that a link cannot go
            in a circle or count tiles twice.
        closed: Gets the folders that may not be looked into.
    """
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        closed.append(folder)
        return
    for entry in entries:
        path = f"{folder.rstrip('/')}/{entry.name}"
        if entry.is_dir():
            yield from _walk(path, seen, closed)
        elif is_archive(path):
            yield from filter(is_raster, members(path))
        elif is_raster(entry.name) and entry.is_file():
            yield path


def _shared(folders: set[str]) -> str:
    """The beginning that folders share, up to and with a slash; empty if there is none."""
    # Of lists of parts it compares part by part; commonpath would make one slash of two.
    parts = os.path.commonprefix([folder.rstrip("/").split("/") for folder in folders])  # noqa: RUF071
    return "".join(f"{part}/" for part in parts)
