"""Hooks of MkDocs for `make docs`: links out of docs/, notebooks, and roles in docstrings.

Pages link to other files as they lie in the repository, which is what GitHub follows. What lies
outside docs/ and is linked to, or named in the navigation, goes into the site below
``repository/``. A notebook becomes a page with the outputs that it holds; nothing is run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
OUTSIDE = "repository/"
"""Where on the site the files outside docs/ are."""
_FENCE_OR_LINK = re.compile(
    r"^(?P<fence> *(?:```|~~~)).*?^(?P=fence)"
    r"|(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<path>[^)\s#]*)(?P<anchor>#[^)\s]*)?\)",
    re.MULTILINE | re.DOTALL,
)
_ROLE = re.compile(r":(?:attr|class|data|func|meth):<code>(~?)([\w.]+)</code>")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ that pages link to, those of the navigation, and notebooks."""
    from mkdocs.structure.files import File, InclusionLevel

    named = set(_named(config.nav))
    for notebook in sorted(DOCS.rglob("*.ipynb")):
        files.append(File.generated(config, uri_of(notebook), content=page_of(notebook)))
    first = [path_of(uri) for uri in named if uri.startswith(OUTSIDE)]
    for path in sorted(outside([*DOCS.rglob("*.md"), *first]) | set(first)):
        uri = uri_of(path)
        added = File.generated(config, uri, abs_src_path=str(path))
        if path.suffix == ".md" and uri not in named:
            added.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(added)
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point links across the border of docs/ to where their files lie on the site."""
    return moved(markdown, path_of(page.file.src_uri))


def on_page_content(html: str, **_: Any) -> str:
    """Show the roles of docstrings as the names that they refer to."""
    return without_roles(html)


def links(markdown: str) -> Iterator[tuple[str, str]]:
    """Path and anchor of every relative link of a page, either of them empty; not those in code."""
    for found in _FENCE_OR_LINK.finditer(markdown):
        if found["fence"] is None and not _is_address(found["path"]):
            yield found["path"], (found["anchor"] or "").removeprefix("#")


def target(path: str, page: Path) -> Path:
    """The file or folder that a relative link of a page leads to."""
    return Path(os.path.normpath(page.parent / path)) if path else page


def page_of(notebook: Path) -> str:
    """A notebook as a page of Markdown, with its outputs and a link to itself."""
    text = notebook.read_text(encoding="utf-8")
    first, *rest = (_cell(cell) for cell in json.loads(text)["cells"])
    link = f'<p><a href="{notebook.name}" download>Download this notebook</a></p>'
    return "\n\n".join([first, link, *rest]) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    """A cell as Markdown."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    shown = [_output(output) for output in cell["outputs"]]
    return "\n\n".join([f"```python\n{source}\n```", *shown])


def _output(output: dict[str, Any]) -> str:
    """An output as Markdown: the richest of its forms that a page can show."""
    if output["output_type"] == "stream":
        return _verbatim("".join(output["text"]))
    data = {kind: "".join(content) for kind, content in output["data"].items()}
    if "image/png" in data:
        picture = data["image/png"].replace("\n", "")
        return f'<img alt="Output of the cell above" src="data:image/png;base64,{picture}">'
    if "text/html" in data:
        # The theme draws tables that have no class.
        table = data["text/html"].replace(' border="1" class="dataframe"', "")
        return f"<div>\n{table}\n</div>"
    return _verbatim(data["text/plain"])


def _verbatim(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def outside(pages: Iterable[Path]) -> set[Path]:
    """Files outside docs/ that pages link to, and those that these link to in turn.

    Raises:
        FileNotFoundError: If a link leads nowhere, with the page.
    """
    found: set[Path] = set()
    waiting = list(pages)
    while waiting:
        page = waiting.pop()
        for link, _ in links(page.read_text(encoding="utf-8")):
            path = target(link, page)
            if not path.exists():
                raise FileNotFoundError(f"{page} links to {link}, which does not exist")
            if path.is_file() and not path.is_relative_to(DOCS) and path not in found:
                found.add(path)
                waiting += [path] if path.suffix == ".md" else []
    return found


def uri_of(path: Path) -> str:
    """Where a file of the repository lies on the site."""
    if path.is_relative_to(DOCS):
        here = path.relative_to(DOCS)
        return (here.with_suffix(".md") if here.suffix == ".ipynb" else here).as_posix()
    return OUTSIDE + path.relative_to(ROOT).as_posix()


def path_of(uri: str) -> Path:
    """The file of the repository behind a place on the site."""
    if uri.startswith(OUTSIDE):
        return ROOT / uri.removeprefix(OUTSIDE)
    notebook = (DOCS / uri).with_suffix(".ipynb")
    return notebook if notebook.is_file() else DOCS / uri


def moved(markdown: str, page: Path) -> str:
    """A page with its links as they are on the site; a folder, which has no page, is only named."""
    here = PurePosixPath(uri_of(page)).parent

    def rewritten(found: re.Match[str]) -> str:
        if found["fence"] is not None or not found["path"] or _is_address(found["path"]):
            return found[0]
        path = target(found["path"], page)
        if path.is_dir():
            return found["text"]
        there = PurePosixPath(os.path.relpath(uri_of(path), here)).as_posix()
        return f"{found['image']}[{found['text']}]({there}{found['anchor'] or ''})"

    return _FENCE_OR_LINK.sub(rewritten, markdown)


def without_roles(html: str) -> str:
    """HTML of docstrings in which ``:func:`~a.b``` is the name b, linked where the page has it."""

    def name(found: re.Match[str]) -> str:
        full = found[2]
        shown = full.rpartition(".")[2] if found[1] else full
        code = f"<code>{shown}</code>"
        return f'<a href="#{full}">{code}</a>' if f'id="{full}"' in html else code

    return _ROLE.sub(name, html)


def _is_address(path: str) -> bool:
    return "://" in path or path.startswith("mailto:")


def _named(nav: Any) -> Iterator[str]:
    """The pages that a navigation names, in order."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for item in nav.values():
            yield from _named(item)
    elif isinstance(nav, list):
        for item in nav:
            yield from _named(item)
