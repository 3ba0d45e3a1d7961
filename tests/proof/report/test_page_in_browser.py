"""The report page in a real browser: in both themes, on paper and on a phone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import demo_report
import pytest

import browser as browsers
from sluicegate.proof.report.html import page

pytestmark = pytest.mark.slow

ARGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

MARKS = """svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("rect, path, circle, text")].map(mark => {
    const box = mark.getBoundingClientRect();
    return {tag: mark.tagName, kind: mark.getAttribute("class"), text: mark.textContent,
            left: box.left - frame.left, right: box.right - frame.left,
            top: box.top - frame.top, bottom: box.bottom - frame.top,
            width: frame.width, height: frame.height};
  });
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    path = browsers.chromium()
    if path is None:
        pytest.skip(f"NO PAGE WAS LOOKED AT: no browser ({browsers.HOW_TO_GET_ONE})")
    api = pytest.importorskip("playwright.sync_api", reason="NO PAGE WAS LOOKED AT: pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(demo_report.demo()), encoding="utf-8")
    return path


@pytest.fixture
def visit(browser, file: Path):
    """Open the page; at the end check that there were no errors in the console and no other requests."""
    complaints, requested, pages = [], [], []

    def open_page(width: int = 1100, scheme: str = "light"):
        opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(opened)
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("request", lambda request: requested.append(request.url))
        opened.goto(file.as_uri())
        return opened

    yield open_page
    for opened in pages:
        opened.close()
    assert complaints == []
    assert requested == [file.as_uri()] * len(pages)


def picture(png: bytes):
    image = pytest.importorskip("PIL.Image", reason="NO PAGE WAS CHECKED: pip install pillow")
    return image.open(io.BytesIO(png)).convert("RGB")


def drawings(opened) -> list[list[dict]]:
    """Return the marks of each visible drawing, with every case open."""
    opened.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)")
    found = [svg for svg in opened.query_selector_all("svg.drawing") if svg.is_visible()]
    return [svg.evaluate(MARKS) for svg in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_worst_window_is_visible_in_the_drawing(visit, scheme: str):
    svg = visit(scheme=scheme).query_selector("#correctness-rollover-edge svg.wide")
    image = picture(svg.screenshot())
    marks = {mark["kind"]: mark for mark in svg.evaluate(MARKS)}
    span, over, limit = marks["span"], marks["over"], marks["limit"]
    assert span["right"] - span["left"] > 300 and span["bottom"] - span["top"] > 100

    y = int(span["top"] + 10)  # above the ticks
    inside, beside = image.getpixel((int(span["left"] + 25), y)), image.getpixel((int(span["right"] + 25), y))
    assert sum(abs(a - b) for a, b in zip(inside, beside, strict=True)) > 20
    red, green, blue = image.getpixel((int(over["right"] - 20), int(limit["top"] - 6)))
    assert red > green + 60 and red > blue + 60  # the part over the limit has the colour of a failure
    below = image.getpixel((int(over["right"] - 20), int(limit["top"] + 8)))
    assert below[2] >= below[0]


def test_allowed_ticks_are_filled_and_denied_ones_hollow(visit):
    svg = visit().query_selector("#correctness-rollover-edge svg.wide")
    image = picture(svg.screenshot())

    def middle(kind: str) -> tuple[int, int, int]:
        frame, box = svg.bounding_box(), svg.query_selector_all(f".{kind} .tick")[-1].bounding_box()
        at = box["x"] - frame["x"] + box["width"] / 2, box["y"] - frame["y"] + box["height"] / 2
        return image.getpixel((int(at[0]), int(at[1])))

    assert sum(middle("allowed")) < 500
    assert sum(middle("denied")) > 700


@pytest.mark.parametrize("width", [1100, 390])
def test_every_mark_is_inside_its_drawing(visit, width: int):
    found = drawings(visit(width))
    assert len(found) == 9
    for mark in (mark for marks in found for mark in marks):
        assert mark["left"] >= -1 and mark["right"] <= mark["width"] + 1, mark
        assert mark["top"] >= -1 and mark["bottom"] <= mark["height"] + 1, mark


@pytest.mark.parametrize("width", [1100, 390])
def test_no_text_overlaps_another_or_the_axis(visit, width: int):
    for marks in drawings(visit(width)):
        texts = [mark for mark in marks if mark["tag"] == "text"]
        (axis,) = [mark for mark in marks if mark["kind"] == "axis"]
        for index, one in enumerate(texts):
            for other in texts[index + 1 :]:
                apart = one["right"] <= other["left"] + 1 or other["right"] <= one["left"] + 1
                # Boxes of text are as high as a line, their letters lower.
                assert apart or one["bottom"] <= other["top"] + 3 or other["bottom"] <= one["top"] + 3, (one, other)
            crosses = one["left"] < axis["right"] and one["right"] > axis["left"]
            assert not crosses or one["bottom"] <= axis["top"] + 3 or one["top"] >= axis["top"], one


@pytest.mark.parametrize("width", [1100, 390])
def test_the_page_is_no_wider_than_the_window(visit, width: int):
    opened = visit(width)
    drawings(opened)
    assert opened.evaluate("document.documentElement.scrollWidth") == width


def test_hostile_text_does_not_become_an_element(visit):
    opened = visit()
    assert opened.query_selector("img, script") is None
    assert "<script>alert(1)</script>" in opened.inner_text("#correctness-denial-room")


UNSEEN = """() => [...document.querySelectorAll(".finding, .evidence li")]
  .filter(it => !it.checkVisibility({contentVisibilityAuto: true}) || !it.getClientRects().length).length"""


def test_on_paper_nothing_is_closed_dark_or_cut_off(visit, tmp_path: Path):
    opened = visit(scheme="dark")
    assert opened.evaluate(UNSEEN) > 0
    opened.emulate_media(media="print")
    assert opened.evaluate(UNSEEN) == 0
    assert picture(opened.screenshot()).getpixel((2, 2)) == (255, 255, 255)
    opened.set_viewport_size({"width": 680, "height": 900})  # A4 between the margins
    assert opened.evaluate("document.documentElement.scrollWidth") <= 680
    assert opened.pdf(format="A4").startswith(b"%PDF")
