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


class InModes(Entry):
    """Some tests in some modes.

    Attributes:
        modes: Modes that it holds for; both with pruned backbones if there are none.
    """

    modes: tuple[Mode, ...] = MODES[1:]

    def means(self, test: str, mode: Mode, version: str) -> bool:
        """Whether it is about this test in this mode with this version."""
        return mode in self.modes and self.holds(version) and self.names(test)

    def __str__(self) -> str:
        return f"{self.tests} ({', '.join(self.modes)})"


class Listed(BaseModel):
    """The whole file.

    Attributes:
        files: Test files in which a backbone is swapped.
        left_out: Tests of these files that are not run.
        differs: Tests that pass with the full backbone and may not with the pruned one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: tuple[str, ...]
    left_out: tuple[InModes, ...] = ()
    differs: tuple[InModes, ...] = ()

    def is_left_out(self, test: str, mode: Mode, version: str) -> bool:
        """Whether a test is not run in this mode with this version."""
        return any(entry.means(test, mode, version) for entry in self.left_out)

    def may_differ(self, test: str, mode: Mode, version: str) -> bool:
        """Whether a test may differ in this mode with this version."""
        return any(entry.means(test, mode, version) for entry in self.differs)


def read_listed(path: Path = LISTED) -> Listed:
    """Read the file.

    Raises:
        ValueError: If it says what is not known, or leaves out what is needed.
    """
    return Listed.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
