"""An unfinished map: its finished strips, kept beside it until it is complete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terratorch_simpler.files import make_folder, write_files

STATE = "state.json"


class PartialMap:
    """Finished strips of a map, in a hidden folder beside it.

    Args:
        path: The map.
        identity: What it is made from and how: strips of another identity are of no use.

    Attributes:
        path: The map.
        folder: Where the strips are.
        discarded: Whether strips of another identity were there, which are gone now.

    Raises:
        ValueError: If the folder cannot be written to.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.folder = folder_of(path)
        self.discarded = False
        state = self.folder / STATE
        if self.folder.exists() and _read(state) != identity:
            shutil.rmtree(self.folder)
            self.discarded = True
        if not state.exists():
            make_folder(self.folder)
            write_files({state: json.dumps(identity, indent=1) + "\n"})

    def finished(self) -> int:
        """How many strips are there, from the first on."""
        count = 0
        while self._strip(count).exists():
            count += 1
        return count

    def keep(self, number: int, strip: NDArray[Any]) -> None:
        """Write a strip, whole or not at all.

        Raises:
            OSError: If it cannot be written (a full disk, say).
        """
        path = self._strip(number)
        unfinished = path.with_suffix(".tmp")
        try:
            with unfinished.open("wb") as stream:
                np.save(stream, strip)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise self.failed(error) from error

    def strip(self, number: int) -> NDArray[Any]:
        """A finished strip, [bands, rows, width], of which only what is looked at is read."""
        strip: NDArray[Any] = np.load(self._strip(number), mmap_mode="r")
        return strip

    @contextmanager
    def with_strips(self) -> Iterator[None]:
        """Take the folder away if what is done meanwhile fails before there is a strip."""
        try:
            yield
        except BaseException:
            if not self.finished():
                self.remove()
            raise

    def remove(self) -> None:
        """Take the folder away."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def failed(self, error: OSError) -> OSError:
        """The error of a map that could not be written, with what is left and how to go on."""
        return OSError(
            error.errno,
            f"could not be written ({error.strerror or error}); what is finished is kept in "
            f"{self.folder}: with room on the disk the same command goes on from there",
            str(self.path),
        )

    def _strip(self, number: int) -> Path:
        return self.folder / f"strip_{number:05d}.npy"


def folder_of(path: Path) -> Path:
    """Where the strips of a map are kept."""
    return path.with_name(f".{path.name}.partial")


def _read(state: Path) -> Any:
    try:
        return json.loads(state.read_bytes())
    except (OSError, ValueError):
        return None
