"""Reports in a real browser: nothing breaks, nothing is fetched, nothing runs over the side, dark is dark."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from report.page import Facts, Page, Section, Table, write_page
from tools.report import main as report

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium")
SCREENS = {"phone": {"width": 360, "height": 740}, "desktop": {"width": 1280, "height": 900}}
# What is wider than the screen, and what a reader of the screen would be told of each picture.
OVERFLOWING = """() => {
  const width = document.documentElement.clientWidth;
  const wide = [...document.body.querySelectorAll('*')].filter(e => !e.closest('svg') || e.tagName === 'svg')
    .filter(e => e.getBoundingClientRect().right > width + 1).map(e => e.tagName + '.' + e.className);
  return {scroll: document.documentElement.scrollWidth - width, wide: wide};
}"""
BROKEN = "() => [...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).length"
COLOURS = "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
LIT = """() => [...document.querySelectorAll('svg rect, svg path')]
  .filter(e => getComputedStyle(e).fill === 'rgb(255, 255, 255)').length"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(runs) -> dict[str, Path]:
    """A search, a training, a test, and a comparison."""
    comparison = runs["test-EXP"].parent / "comparison.html"
    tests = [str(runs[name]) for name in ("test-EXP", "test-rgb1", "test-rgb2")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(runs["test-EXP"].parent.parent)
        assert report([*tests, "--out", str(comparison)]) == 0
        assert report([str(runs["found-EXP"])]) == 0  # other tests rebuild it without drawing
    found = {name: runs[f"{name}-EXP"] / "report.html" for name in ("search", "found", "test")}
    return found | {"comparison": comparison}


@pytest.mark.parametrize("name", ["search", "found", "test", "comparison"])
def test_a_page_in_a_browser(browser, pages, tmp_path, name):
    """Light on a phone, then dark on a desktop."""
    page = browser.new_page(viewport=SCREENS["phone"], color_scheme="light")
    said, fetched = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(pages[name].as_uri())
    assert not said
    assert [url for url in fetched if not url.startswith("data:")] == [pages[name].as_uri()]
    assert page.evaluate(BROKEN) == 0
    assert page.evaluate(OVERFLOWING) == {"scroll": 0, "wide": []}
    ground, ink = (_brightness(colour) for colour in page.evaluate(COLOURS))
    assert ground > 240
    assert ink < 60
    page.set_viewport_size(SCREENS["desktop"])
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(OVERFLOWING) == {"scroll": 0, "wide": []}
    ground, ink = (_brightness(colour) for colour in page.evaluate(COLOURS))
    assert ground < 40
    assert ink > 200
    assert page.evaluate(LIT) == 0  # no drawing glares
    picture = tmp_path / "page.png"
    page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 20_000
    page.close()


def test_long_names_do_not_run_over_the_side(browser, tmp_path):
    name = "a_name_without_any_place_to_break_it_" * 4
    table = Table(["method", name], [[name, "1.0 ± 0.1"]])
    wide = Table(["method", *[name] * 6], [[name, *["1.0"] * 6]])
    path = write_page(
        Page(name, name, {name: name}, [Section(name, [table, wide, Facts({name: name})])]), tmp_path / "a.html"
    )
    page = browser.new_page(viewport=SCREENS["phone"])
    page.goto(path.as_uri())
    assert page.evaluate(OVERFLOWING) == {"scroll": 0, "wide": []}
    page.close()


def test_print_is_light_and_whole(browser, pages, tmp_path):
    page = browser.new_page(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.goto(pages["test"].as_uri())
    ground, _ = (_brightness(colour) for colour in page.evaluate(COLOURS))
    assert ground > 240
    assert len(page.pdf(format="A4")) > 20_000
    page.close()


def _brightness(colour: str) -> float:
    """Return the mean of the parts of `rgb(1, 2, 3)`."""
    parts = json.loads(f"[{colour[colour.index('(') + 1 : -1]}]")[:3]
    return sum(parts) / len(parts)
