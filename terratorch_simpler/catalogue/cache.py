"""Entries kept in the user's cache folder, for the versions that are installed: no torch."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from terratorch_simpler.catalogue.entry import Entry
from terratorch_simpler.files import make_folder, write_files

PACKAGES = ("terratorch-simpler", "terratorch", "timm", "torchgeo", "torch")
"""Packages on whose versions an entry depends."""
SECONDS = 5.0
"""How long what was found out may wait to be written: all that a killed process loses."""


class _Stored(BaseModel):
    """What the file holds."""

    model_config = ConfigDict(extra="forbid")
    versions: dict[str, str]
    names: list[str] | None = None
    entries: dict[str, Entry] = Field(default_factory=dict)


def installed_versions() -> dict[str, str]:
    """Version of each of the packages; empty for one that is not installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def cache_file(versions: Mapping[str, str]) -> Path | None:
    """Where the entries for some versions lie: a file of their own in the user's cache folder.

    None where the user has no home, nor a cache folder (``XDG_CACHE_HOME``).
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    # A relative one is to be ignored, says the XDG Base Directory Specification.
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            return None
    key = hashlib.sha256(repr(sorted(versions.items())).encode()).hexdigest()[:12]
    return base / "terratorch_simpler" / f"backbones-{key}.json"


class Cache:
    """Names and entries in a file, which is written whole or not at all.

    Whatever is wrong with it is no more than a loss of time: a file that cannot be read counts as
    empty, and where it cannot be written, :attr:`problem` says why.

    Args:
        path: The file; it and its folder need not exist.
        versions: What the entries hold for; those of a file for others are not used.

    Attributes:
        path: The file.
        names: All names of the registry in its order; None while they are not known.
        entries: Entries by name.
        problem: Why it could not be written; None where it could.
    """

    def __init__(self, path: Path, versions: Mapping[str, str]) -> None:
        self.path, self._versions = path, dict(versions)
        stored = self._read()
        self.names, self.entries = stored.names, stored.entries
        self.problem: str | None = None
        self._written = time.monotonic()

    def keep_names(self, names: Sequence[str]) -> None:
        """Keep the list of all names."""
        self.names = list(names)
        self.save()

    def keep(self, entry: Entry) -> None:
        """Keep an entry; the file is written if that was some seconds ago."""
        self.entries[entry.name] = entry
        if time.monotonic() - self._written > SECONDS:
            self.save()

    def save(self) -> None:
        """Write the file, with what another process has added to it in the meantime."""
        if self.problem is not None:
            return
        self.entries = {**self._read().entries, **self.entries}
        stored = _Stored(versions=self._versions, names=self.names, entries=self.entries)
        try:
            make_folder(self.path.parent)
            write_files({self.path: stored.model_dump_json()}, overwrite=True)
        except (OSError, ValueError) as error:
            self.problem = str(error)
        self._written = time.monotonic()

    def _read(self) -> _Stored:
        empty = _Stored(versions=self._versions)
        try:
            stored = _Stored.model_validate_json(self.path.read_bytes())
        except (OSError, ValidationError):
            return empty
        return stored if stored.versions == self._versions else empty
