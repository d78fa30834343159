"""Archives as folders: the rasters in a ``.zip`` or ``.tar``, by the paths that GDAL reads."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

RASTERS = (".tif", ".tiff", ".vrt", ".jp2")
ARCHIVES = {".zip": "/vsizip/", ".tar": "/vsitar/"}
"""File systems of GDAL by the ending of an archive."""


def is_raster(path: str) -> bool:
    """Whether a path ends like a raster."""
    return path.lower().endswith(RASTERS)


def outside(path: str) -> str:
    """A path without the file system of GDAL before it, as if an archive were a folder."""
    for system in ARCHIVES.values():
        path = path.removeprefix(system)
    return path


def is_archive(path: str) -> bool:
    """Whether a path is an archive on disk, or GDAL's path of one or of a folder in it."""
    archive, _ = _split(path)
    return archive is not None


def members(path: str) -> list[str]:
    """The files in an archive, or in a folder of it, by the paths that GDAL reads.

    Raises:
        ValueError: If it is damaged.
    """
    archive, inner = _split(path)
    assert archive is not None
    try:
        if archive.suffix.lower() == ".zip":
            with zipfile.ZipFile(archive) as zipped:
                names = [entry.filename for entry in zipped.infolist() if not entry.is_dir()]
        else:
            with tarfile.open(archive) as packed:
                names = [entry.name.removeprefix("./") for entry in packed if entry.isfile()]
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{archive} is not an archive that can be read ({error}): remove or replace it"
        ) from error
    system = ARCHIVES[archive.suffix.lower()]
    return [f"{system}{archive.as_posix()}/{name}" for name in names if name.startswith(inner)]


def _split(path: str) -> tuple[Path | None, str]:
    """The archive on disk that a path names, and the folder in it, up to and with a slash."""
    plain = outside(path).rstrip("/")
    for ending in ARCHIVES:
        before, found, inner = plain.partition(f"{ending}/")
        if not found and plain.lower().endswith(ending):
            before, found, inner = plain[: -len(ending)], plain[-len(ending) :], ""
        archive = Path(before + found.rstrip("/"))
        if found and not is_raster(inner) and archive.is_file():
            return archive, f"{inner}/" if inner else ""
    return None, ""
