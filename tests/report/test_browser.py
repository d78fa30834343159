"""The page as a browser shows it: in light and dark, at three widths, by keyboard and on paper."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, PdfMargins, sync_playwright

from terratorch_simpler.report import PAGE, report_files
from terratorch_simpler.results.answers import Answers
from terratorch_simpler.results.plan import PruningPlan
from tests.conftest import MakePlan
from tests.report.plans import ANSWERS, PICTURES, rich_plan

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROME = os.environ.get("CHROME_BIN") or next(filter(shutil.which, NAMES), None)
"""A browser that is named has to be there; without any the tests are skipped."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (390, 768, 1280)
CONTRAST = 4.5
"""Of text with what lies behind it, at least: WCAG 2.1, level AA."""
PAGES = 2
"""Of a plan; what fine-tuned models say of tiles takes one more."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROME is None,
        reason="needs Chromium or Chrome: install one (Debian: apt-get install chromium), or name "
        "its command in CHROME_BIN",
    ),
]

HIDDEN_VALUES = """() => {
  const covered = [];
  for (const title of document.querySelectorAll("svg title")) {
    const mark = title.parentElement;
    const drawn = mark.querySelector(":scope > :not(.hit, .error, title)");
    const shape = drawn ?? mark;
    shape.scrollIntoView({block: "center"});
    const box = shape.getBoundingClientRect();
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    const said = top?.querySelector("title") ?? top?.parentElement.querySelector("title");
    if (said?.textContent !== title.textContent) covered.push(title.textContent);
  }
  return covered;
}"""
"""Values that the pointer does not get to see where they are drawn."""
FOCUSED = """() => {
  const at = document.activeElement;
  if (at === document.body) return null;
  const words = at.tagName === "SUMMARY" ? at.textContent : "";
  return [at.tagName, at.getAttribute("aria-label") ?? words];
}"""
COLOURS = """() => [getComputedStyle(document.body).backgroundColor,
  ...[...document.querySelectorAll("svg text")].map(text => getComputedStyle(text).fill)]"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = shutil.which(CHROME or "")
        assert found is not None, f"CHROME_BIN names no command: {CHROME}"
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["everything", "plan alone"])
def report(
    request: pytest.FixtureRequest, make_plan: MakePlan, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Address of a page with everything, and of one with nothing but the choice."""
    page = tmp_path_factory.mktemp("report") / PAGE
    if request.param == "everything":
        return write(page, rich_plan(make_plan), PICTURES, ANSWERS)
    return write(page, make_plan(), {})


def write(
    page: Path, plan: PruningPlan, pictures: dict[str, bytes], answers: Answers | None = None
) -> str:
    """Write the page of a plan, and return its address."""
    page.write_bytes(report_files(plan, "chosen/plan.json", pictures, answers)[PAGE])
    return page.as_uri()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield context.new_page()


def test_the_page_opens_without_errors_and_fetches_nothing(page: Page, report: str) -> None:
    fetched: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report)
    assert [url for url in fetched if not url.startswith("data:")] == [report]
    assert said == []
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")


def test_every_value_is_shown_where_the_pointer_rests(page: Page, report: str) -> None:
    """Another line's point that lies over it says the same."""
    page.goto(report)
    assert page.locator("svg title").count() > 13 * 13
    assert page.evaluate(HIDDEN_VALUES) == []


def test_many_blocks_do_not_cover_each_other(
    page: Page, make_plan: MakePlan, tmp_path: Path
) -> None:
    page.goto(write(tmp_path / PAGE, make_plan(20, 48), {}))
    assert page.locator("svg title").count() > 49 * 49
    assert page.evaluate(HIDDEN_VALUES) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_colours_follow_the_scheme_of_the_reader(
    page: Page, report: str, scheme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(report)
    back, *texts = (luminance(colour) for colour in page.evaluate(COLOURS))
    assert back > 0.9 if scheme == "light" else back < 0.05
    assert texts
    for text in texts:
        assert (max(back, text) + 0.05) / (min(back, text) + 0.05) >= CONTRAST


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``, as WCAG 2.1 defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_as_wide_as_the_window(page: Page, report: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(report)
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def open_all(page: Page) -> None:
    """Unfold what is folded."""
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")


def test_everything_can_be_reached_by_keyboard(page: Page, report: str) -> None:
    """What scrolls at this width as well; each has a name, and a folded table opens."""
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(report)
    open_all(page)
    reached = []
    for _ in range(page.locator("*").count()):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUSED)
        if at is None:
            break
        reached.append(at)
    names = [name for _, name in reached]
    assert all(names), reached
    assert len(set(names)) == len(names)
    scrolling = (
        "[...document.querySelectorAll('.wide, pre')].map(e => e.getAttribute('aria-label'))"
    )
    assert {"The numbers", *page.evaluate(scrolling)} == set(names)
    folded = page.locator("details")
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    assert folded.get_attribute("open") is None
    page.keyboard.press("Enter")
    assert folded.get_attribute("open") is not None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_to_mend(
    page: Page, report: str, scheme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(report)
    open_all(page)
    violations: list[dict[str, Any]] = Axe().run(page).response["violations"]
    assert [(found["id"], found["impact"], found["nodes"][0]["html"]) for found in violations] == []


def test_it_prints_on_few_pages(page: Page, report: str) -> None:
    """In the colours of paper, whatever those of the reader's screen are."""
    page.emulate_media(color_scheme="dark")
    page.goto(report)
    edges = PdfMargins(top="1cm", right="1cm", bottom="1cm", left="1cm")
    printed = page.pdf(format="A4", margin=edges)
    most = PAGES + page.locator(".answers").count()
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= most
    page.emulate_media(media="print")
    assert luminance(page.evaluate(COLOURS)[0]) == pytest.approx(1)
    # Printers leave out the colour behind a box that is not said to be one of meaning.
    boxes = "[...document.querySelectorAll('.legend span')]"
    kept = f"{boxes}.map(box => getComputedStyle(box).printColorAdjust)"
    assert set(page.evaluate(kept)) <= {"exact"}
