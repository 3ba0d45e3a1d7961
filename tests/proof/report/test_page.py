"""The report as an HTML page, checked as text."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from itertools import product

import demo_report
import pytest

from sluicegate.proof.report.html import page
from sluicegate.proof.verdict import CaseVerdict

PAGE = page(demo_report.demo())


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def tags() -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(PAGE)
    return parser.found


def test_the_page_has_no_script_and_makes_no_request(tags):
    assert not {tag for tag, _ in tags} & {"script", "img", "link", "iframe", "object", "form", "base"}
    assert not [
        attrs for _, attrs in tags if "src" in attrs or "style" in attrs or any(n.startswith("on") for n in attrs)
    ]
    assert all((attrs.get("href") or "#").startswith("#") for _, attrs in tags)
    assert not re.search(r"url\(|@import", PAGE)


def test_the_policy_allows_this_style_sheet_alone(tags):
    (policy,) = [attrs["content"] for _, attrs in tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    style = re.search(r"<style>(.*)</style>", PAGE, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy


def test_hostile_text_is_escaped():
    assert "<script>" not in PAGE and "<img" not in PAGE
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31mred\\u202eevil" in PAGE
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e]", PAGE)


def test_failed_and_undecided_cases_are_open(tags):
    cases = [attrs for tag, attrs in tags if tag == "details" and "case" in (attrs.get("class") or "")]
    for attrs in cases:
        assert ("open" in attrs) == (attrs["class"] in {"case failed", "case undecided"})
    assert len(cases) == 10 + 4  # the cases that were run, and the reasons why others were skipped


def test_every_drawing_has_a_name_and_a_description(tags):
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    drawings = [attrs for tag, attrs in tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(ids) == len(set(ids))
    assert len(drawings) == 2 * 5 + 4  # two widths if the case did not pass
    assert all(set(attrs["aria-labelledby"].split()) <= set(ids) for attrs in drawings)


@pytest.mark.parametrize(
    "says",
    [
        "4 of the 10 cases that could be tried failed; 6 do not apply.",
        "Skipped: the case does not apply to this target, which is not a fault.",
        "Held to <b>5 units</b> in any <b>1 s</b>.",
        "5 March 2026, 14:02 UTC+01:00",
        "0.96 s, less than the window of 1 s:",
        "10 allowed, limit 5",
        "bytes a key</dt><dd>0.00512",
        "These are counts, not a score.",
        "The kit is not a sandbox.",
        "Python 3.11.7",
    ],
)
def test_the_page_says(says: str):
    assert says in PAGE


def test_questions_are_on_the_page_only_with_the_option():
    question = "Which callers cost the server more: allowed ones or denied ones?"
    assert question not in PAGE
    assert question in page(replace(demo_report.demo(), questions=True))


def test_a_case_that_measures_time_is_marked():
    assert PAGE.count('<span class="tag">timed</span>') == 2


def test_units_that_have_left_the_span_are_named_in_the_legend():
    assert PAGE.count('<span class="legend gone">just left</span>') == 1  # of the outage


def test_the_page_praises_nothing_if_every_case_is_skipped():
    skipped = tuple(r for r in demo_report.demo().results if r.finding.verdict is CaseVerdict.SKIPPED)
    text = page(replace(demo_report.demo(), results=skipped))
    assert 'class="headline undecided">\nNothing could be tried.' in text


def test_a_report_without_results_facts_or_versions_is_a_page_too():
    assert "No case was run." in page(replace(demo_report.demo(), results=(), facts=None, versions={}))


def colors() -> list[dict[str, str]]:
    """The variables of the light theme, the dark and the printed one."""
    style = resources.files("sluicegate.proof.report").joinpath("page.css").read_text(encoding="utf-8")
    return [
        dict(re.findall(r"--([a-z-]+): (#\w+);", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(c * 2 for c in color[1:])
    parts = (int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4))
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "paper"])
def test_every_text_colour_is_readable_on_its_background(theme: int):
    """Source: WCAG 2.2, 1.4.3: a contrast of 4.5 to 1."""
    found = colors()[theme]
    pairs = [*product(("ink", "muted", "accent", "fail"), ("ground", "surface", "sunken"))]
    pairs += [(name, f"{name}-soft") for name in ("pass", "fail", "doubt", "skip")]
    for ink, ground in pairs:
        dark, light = sorted((luminance(found[ink]), luminance(found[ground])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_a_failed_case_lists_its_last_requests_with_the_shown_one_marked():
    (row,) = re.findall(r'<tr class="shown">(.*?)</tr>', part_of("correctness-denial-room"))
    assert re.findall(r">([^<>]+)</td>", row) == ["last", "1 ms", "1", "denied"]
    assert "The last requests of this key" not in part_of("correctness-limit-most")


def part_of(id_: str) -> str:
    return page(demo_report.demo()).partition(f'id="{id_}"')[2].partition("</details>")[0]


def test_questions_about_failed_cases_come_first_and_lead_to_them():
    html = page(replace(demo_report.demo(), questions=True))
    asked = html.partition('id="line-performance"')[2].partition("Questions to ask")[2].partition("</ul>")[0]
    first, *others = re.findall(r"<li>(.*?)</li>", asked)
    assert first.startswith("N is 100 000.") and 'href="#performance-time-limit"' in first
    assert others[-1] == "A million users come once each. What is in memory an hour later?"
