"""Links and navigation of the documentation lead somewhere, on GitHub and on the site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from scripts.docs_hooks import links, page_of, path_of, target
from tests.docs.pages import ALL, DOCS, NOTEBOOKS, PAGES, ROOT, anchors, named

PICTURES = sorted((DOCS / "images").iterdir())


def nav_of(entries: Any) -> Iterator[str]:
    """Every page that a navigation names."""
    if isinstance(entries, str):
        yield entries
        return
    for entry in entries.values() if isinstance(entries, dict) else entries:
        yield from nav_of(entry)


@pytest.mark.parametrize("page", [*ALL, *NOTEBOOKS], ids=named)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = page_of(page) if page in NOTEBOOKS else page.read_text(encoding="utf-8")
    for path, anchor in links(text):
        there = target(path, page)
        assert there.exists(), f"{path} does not exist"
        if anchor:
            assert anchor in anchors(there), f"{path}#{anchor} is no heading"


def test_every_page_is_in_the_navigation_once() -> None:
    named_there = list(nav_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    paths = [path_of(uri) for uri in named_there]
    assert sorted(path for path in paths if path.is_relative_to(DOCS)) == sorted(
        [*PAGES, *NOTEBOOKS]
    )
    assert [path for path in paths if not path.is_file()] == []


@pytest.mark.parametrize("page", NOTEBOOKS, ids=named)
def test_notebooks_stay_in_the_documentation(page: Path) -> None:
    """Their links are followed where a notebook is opened alone, beside the others."""
    assert [
        path for path, _ in links(page_of(page)) if not target(path, page).is_relative_to(DOCS)
    ] == []


def test_every_picture_is_shown() -> None:
    shown = {
        target(path, page) for page in PAGES for path, _ in links(page.read_text(encoding="utf-8"))
    }
    assert set(PICTURES) <= shown


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: str(picture.name))
def test_pictures_are_drawings_that_say_what_they_show(picture: Path) -> None:
    drawing = ElementTree.parse(picture).getroot()
    assert drawing.findtext("{http://www.w3.org/2000/svg}title")
