"""Pages of the documentation: their headings and blocks of code."""

from __future__ import annotations

import re
import shlex
import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))
ALL = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
SHELL = ("", "bash", "console", "sh", "shell")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^ *```$", re.M | re.S)
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.M)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: The page, from the root of the repository.
        line: Its first line there.
        language: What follows the fence; empty where nothing does.
        text: The code, without the indent of its fence.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of every ``terratorch-simpler`` in a block of the shell."""
        if self.language not in SHELL:
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
        return [line[1:] for line in words if line and line[0] == "terratorch-simpler"]


def named(page: Path) -> str:
    """A page as tests call it."""
    return page.relative_to(ROOT).as_posix()


def blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in some languages."""
    found = []
    for page in ALL:
        text = page.read_text(encoding="utf-8")
        for fence in _FENCE.finditer(text):
            if fence["language"] in languages:
                line = text.count("\n", 0, fence.start("text")) + 1
                code = textwrap.dedent(fence["text"])
                found.append(Block(named(page), line, fence["language"], code))
    return found


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings that GitHub and MkDocs agree on."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = [_plain(found[1]) for found in _HEADING.finditer(text)]
    return set(_numbered(headings, _of_github, "-")) & set(_numbered(headings, _of_mkdocs, "_"))


def _plain(heading: str) -> str:
    """A heading without its marks."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")


def _of_github(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _of_mkdocs(heading: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())


def _numbered(headings: list[str], slug: Callable[[str], str], mark: str) -> Iterator[str]:
    """Anchors in order; one that was there before gets a number."""
    seen: dict[str, int] = {}
    for heading in headings:
        name = slug(heading)
        count = seen.get(name, 0)
        seen[name] = count + 1
        yield f"{name}{mark}{count}" if count else name
