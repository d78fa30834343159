"""What ``tests.yaml`` says: which files of TerraTorch's tests are run, and which may differ."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from tests.upstream.swap import MODES, Mode

LISTED = Path(__file__).with_name("tests.yaml")


class Entry(BaseModel):
    """Some tests, and why they are listed.

    Attributes:
        tests: Their names as pytest writes them, from the file on; ``*`` stands for any text.
        why: The reason, in plain words.
        versions: Versions of TerraTorch it holds for; all if there are none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tests: str = Field(min_length=1)
    why: str = Field(min_length=1)
    versions: tuple[str, ...] = ()

    def holds(self, version: str) -> bool:
        """Whether it holds for a version of TerraTorch."""
        return not self.versions or version in self.versions

    def names(self, test: str) -> bool:
        """Whether it means this test: brackets, which hold parameters, mean themselves."""
        return fnmatchcase(test, self.tests.replace("[", "[[]"))

    def __str__(self) -> str:
        return self.tests


class Differing(Entry):
    """Tests that pass with the full backbone and may not with the pruned one.

    Attributes:
        modes: Modes in which they differ.
    """

    modes: tuple[Mode, ...] = MODES[1:]

    def __str__(self) -> str:
        return f"{self.tests} ({', '.join(self.modes)})"


class Listed(BaseModel):
    """The whole file.

    Attributes:
        files: Test files in which a backbone is swapped.
        left_out: Tests of these files that are not run.
        differs: Tests that may differ.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: tuple[str, ...]
    left_out: tuple[Entry, ...] = ()
    differs: tuple[Differing, ...] = ()

    def is_left_out(self, test: str, version: str) -> bool:
        """Whether a test is not run with this version."""
        return any(entry.holds(version) and entry.names(test) for entry in self.left_out)

    def differing(self, test: str, mode: Mode, version: str) -> Differing | None:
        """The entry that lets a test differ."""
        return next(
            (
                entry
                for entry in self.differs
                if mode in entry.modes and entry.holds(version) and entry.names(test)
            ),
            None,
        )


def read_listed(path: Path = LISTED) -> Listed:
    """Read the file.

    Raises:
        ValueError: If it says what is not known, or leaves out what is needed.
    """
    return Listed.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
