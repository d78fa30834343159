from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.docs_hooks import (
    DOCS,
    ROOT,
    links,
    moved,
    on_page_markdown,
    outside,
    page_of,
    path_of,
    target,
    uri_of,
    without_roles,
)

PAGE = DOCS / "reference/plan.md"


@pytest.mark.parametrize(
    ("markdown", "found"),
    [
        ("[a](tiles.md)", [("tiles.md", "")]),
        (
            "[a](tiles.md#units) and ![b](images/c.svg)",
            [("tiles.md", "units"), ("images/c.svg", "")],
        ),
        ("[two\nlines](#here)", [("", "here")]),
        ("[`code`](a.md)", [("a.md", "")]),
        ("[a](https://b.org/c.md) <b@c.org> [d](mailto:e@f.org)", []),
        ("```\n[a](b.md)\n```\n[c](d.md)", [("d.md", "")]),
        ("    ```python\n    x[0](y)\n    ```\n", []),
    ],
)
def test_links_are_those_outside_code(markdown: str, found: list[tuple[str, str]]) -> None:
    assert list(links(markdown)) == found


def test_a_path_and_its_place_on_the_site_belong_together() -> None:
    for path, uri in (
        (DOCS / "tiles.md", "tiles.md"),
        (ROOT / "CONTRIBUTING.md", "repository/CONTRIBUTING.md"),
        (DOCS / "tutorials/first_cut.ipynb", "tutorials/first_cut.md"),
    ):
        assert uri_of(path) == uri
        assert path_of(uri) == path
    assert target("../../README.md", PAGE) == ROOT / "README.md"
    assert target("", PAGE) == PAGE


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        (DOCS / "a.md", "[a](../README.md#words)", "[a](repository/README.md#words)"),
        (PAGE, "[a](../../studies/README.md)", "[a](../repository/studies/README.md)"),
        (PAGE, "[a](../tutorials/first_cut.ipynb)", "[a](../tutorials/first_cut.md)"),
        (ROOT / "studies/README.md", "[a](../docs/evidence.md)", "[a](../../evidence.md)"),
        (ROOT / "studies/README.md", "[a](paper/README.md)", "[a](paper/README.md)"),
        (DOCS / "a.md", "![a](../studies/results/b.svg)", "![a](repository/studies/results/b.svg)"),
        (DOCS / "a.md", "[`b`](../terratorch_simpler/backbones/families)", "`b`"),
        (DOCS / "a.md", "[a](#b) [c](https://d.org)", "[a](#b) [c](https://d.org)"),
        (DOCS / "a.md", "```\n[a](../b.md)\n```", "```\n[a](../b.md)\n```"),
    ],
)
def test_links_across_the_border_of_docs_are_moved(page: Path, link: str, there: str) -> None:
    assert moved(link, page) == there


def test_a_page_is_moved_by_its_place_on_the_site() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="repository/CHANGELOG.md"))
    assert on_page_markdown("[a](docs/tiles.md)", page=page) == "[a](../tiles.md)"


def test_files_are_followed_from_page_to_page() -> None:
    found = outside([DOCS / "evidence.md"])
    assert {ROOT / "studies/README.md", ROOT / "studies/paper/README.md"} <= found
    assert not any(path.is_relative_to(DOCS) for path in found)


def test_a_link_to_nowhere_names_its_page(tmp_path_factory: pytest.TempPathFactory) -> None:
    page = tmp_path_factory.mktemp("docs") / "page.md"
    page.write_text("[a](lost.md)")
    with pytest.raises(
        FileNotFoundError, match=r"page\.md links to lost\.md, which does not exist"
    ):
        outside([page])


def test_roles_become_names() -> None:
    html = (
        '<h2 id="a.b.c">c</h2> :func:<code>~a.b.c</code>, :class:<code>~a.D</code>, '
        ":data:<code>E</code>, <code>:func:</code>"
    )
    assert without_roles(html) == (
        '<h2 id="a.b.c">c</h2> <a href="#a.b.c"><code>c</code></a>, <code>D</code>, '
        "<code>E</code>, <code>:func:</code>"
    )


def test_a_notebook_is_a_page_with_its_outputs(tmp_path: Path) -> None:
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["one\n", "two\n"]},
        {"output_type": "execute_result", "data": {"text/plain": ["{1: 2}"]}},
        {"output_type": "display_data", "data": {"image/png": "QUJD\nREVG\n", "text/plain": "<F>"}},
        {
            "output_type": "execute_result",
            "data": {
                "text/html": ['<table border="1" class="dataframe">', "</table>"],
                "text/plain": "5",
            },
        },
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# A title\n", "and [a link](../tiles.md)"]},
        {"cell_type": "code", "source": ["plan = 1\n", "plan"], "outputs": outputs},
    ]
    (tmp_path / "cut.ipynb").write_text(json.dumps({"cells": cells}))
    page = page_of(tmp_path / "cut.ipynb")
    assert page.startswith("# A title\nand [a link](../tiles.md)\n\n<p>")
    assert '<a href="cut.ipynb" download>' in page
    assert "```python\nplan = 1\nplan\n```\n\n```text\none\ntwo\n```" in page
    assert "```text\n{1: 2}\n```" in page
    assert 'src="data:image/png;base64,QUJDREVG">' in page
    assert "<div>\n<table></table>\n</div>" in page
    assert "<F>" not in page
