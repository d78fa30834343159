"""Pictures inside the page: written into it, and read back from a page written before."""

from __future__ import annotations

import base64
import binascii
from html.parser import HTMLParser
from pathlib import Path

PREFIX = "data:image/png;base64,"


def uri(png: bytes) -> str:
    """The bytes of a PNG file as an address that holds them."""
    return f"{PREFIX}{base64.b64encode(png).decode()}"


def read_pictures(page: Path) -> dict[str, bytes] | None:
    """The PNGs of tiles by name in a report written before; None where there is no report."""
    if not page.is_file():
        return None
    reader = _TilesSection()
    reader.feed(page.read_text(encoding="utf-8", errors="replace"))
    return reader.pictures


class _TilesSection(HTMLParser):
    """Collects the pictures of the section that every report has: ``<div class="tiles">``."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: dict[str, bytes] | None = None
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "div" and values.get("class") == "tiles":
            self._inside, self.pictures = True, self.pictures or {}
        elif tag == "img" and self._inside and self.pictures is not None:
            png = _png(values.get("src") or "")
            if png is not None:
                self.pictures[values.get("alt") or ""] = png

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self._inside = False


def _png(address: str) -> bytes | None:
    try:
        data = base64.b64decode(address.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        return None
    return data if address.startswith(PREFIX) else None
