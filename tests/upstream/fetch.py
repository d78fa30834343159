"""TerraTorch's source distribution, which holds its tests, fetched as ``uv.lock`` names it."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import tempfile
import tomllib
import zlib
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

PACKAGE = "terratorch"
TIMEOUT = 60.0
"""Seconds without an answer after which the index counts as out of reach."""


@dataclass(frozen=True)
class Archive:
    """A source distribution.

    Attributes:
        version: Version of the package.
        url: Where the archive lies.
        sha256: Its SHA-256, in hexadecimal digits.
    """

    version: str
    url: str
    sha256: str

    @property
    def folder(self) -> str:
        """Name of the one folder in the archive."""
        return f"{PACKAGE}-{self.version}"


def locked_archive(lock: Path, version: str) -> Archive:
    """The source distribution of one version, from a lock file of uv.

    Raises:
        ValueError: If the lock does not hold this version, or no source distribution of it.
    """
    packages = tomllib.loads(lock.read_text(encoding="utf-8"))["package"]
    locked = {entry["version"]: entry for entry in packages if entry["name"] == PACKAGE}
    if version not in locked:
        raise ValueError(
            f"{PACKAGE} {version} is installed, {lock.name} holds {', '.join(sorted(locked))}: "
            "set up the environment from the lock (make setup), or run 'uv lock'"
        )
    archive = locked[version].get("sdist")
    if archive is None:
        raise ValueError(f"{lock.name} holds no source distribution of {PACKAGE} {version}")
    return Archive(version, archive["url"], archive["hash"].removeprefix("sha256:"))


def fetch(archive: Archive, folder: Path) -> Path:
    """Unpack an archive below a folder, whole or not at all; what is there already stays.

    Returns:
        Its unpacked folder.

    Raises:
        ConnectionError: If it cannot be fetched.
        ValueError: If it is not the archive that the lock means, or holds something else.
    """
    unpacked = folder / archive.folder
    if unpacked.is_dir():
        return unpacked
    content = _download(archive.url)
    found = hashlib.sha256(content).hexdigest()
    if found != archive.sha256:
        raise ValueError(
            f"{archive.url} has SHA-256 {found}, the lock says {archive.sha256}: nothing was "
            "unpacked. Try again; if it stays so, the archive is not the one that was locked"
        )
    folder.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    try:
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as opened:
                opened.extractall(part, filter="data")
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise ValueError(f"{archive.url} cannot be unpacked: {error}") from error
        if not (part / archive.folder).is_dir():
            raise ValueError(f"{archive.url} holds no folder {archive.folder}")
        (part / archive.folder).rename(unpacked)
    finally:
        shutil.rmtree(part)
    return unpacked


def _download(url: str) -> bytes:
    try:
        with urlopen(url, timeout=TIMEOUT) as answer:
            content: bytes = answer.read()
    except (URLError, TimeoutError, ConnectionError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise ConnectionError(
            f"{url} cannot be fetched ({reason}): TerraTorch's own tests are in its source "
            "distribution, which needs the package index. Connect, or unpack it in "
            "build/upstream by hand"
        ) from error
    return content
