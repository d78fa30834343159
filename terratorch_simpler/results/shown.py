"""What every record offers to a person; how it is drawn is told by the package, as records do not.

Records come before the words, tables and figures that are made of them, so that they cannot import
them: the package says once where those are (:func:`show_with`), and they are loaded when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Looks(Protocol):
    """Shows records of any kind."""

    def summary(self, record: object) -> str:
        """What the command prints of it, as text."""

    def html(self, record: object) -> str:
        """A short report, without anything from outside."""

    def figure(self, record: object, what: str | None) -> Figure:
        """A figure of it, of several by name."""

    def write_page(self, record: object, path: Path, overwrite: bool) -> None:
        """Write its report as an HTML page."""


_known: list[Callable[[], Looks]] = []


def show_with(looks: Callable[[], Looks]) -> None:
    """Say what shows records; it is called when the first is to be shown."""
    _known[:] = [looks]


def looks() -> Looks:
    """What shows records."""
    return _known[0]()


class Shown:
    """A record that can be looked at: in a terminal, in a notebook, as a figure."""

    def __str__(self) -> str:
        return repr(self)

    def summary(self) -> str:
        """What the command line prints of it, as text."""
        return looks().summary(self)

    def plot(self) -> Figure:
        """Its figure; a notebook shows it, ``savefig`` writes it."""
        return looks().figure(self, None)

    def _repr_html_(self) -> str:
        return looks().html(self)
