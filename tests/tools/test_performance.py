"""The page of figures says what was measured and nothing else, and its pictures show it."""

from __future__ import annotations

import json
import re
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from performance import BLOCKS, DATA, PAGE, load, pictures, rewritten
from performance_charts import Line, Panel, picture
from performance_tables import aims
from rounds import Spread

SVG = "{http://www.w3.org/2000/svg}"


def aim(measured: float, on: str, *, met: bool) -> dict[str, object]:
    return {"what": "64 tasks: x", "on": on, "most": None, "least": 8, "measured": measured, "met": met, "to": ""}


def drawn(*lines: Line) -> ET.Element:
    return ET.fromstring(picture("Decisions", [Panel("Decisions", "", "tasks", "/s", lines)]))


def marks(svg: ET.Element, kind: str) -> list[tuple[float, float]]:
    found = svg.iter(f"{SVG}circle")
    return [(float(m.get("cx")), float(m.get("cy"))) for m in found if m.get("class") == f"mark {kind}"]


def test_the_page_says_what_its_data_say():
    text = PAGE.read_text(encoding="utf-8")
    assert text == rewritten(text, load(DATA)), "run: python tools/performance.py"


def test_each_picture_shows_what_its_data_say_and_is_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    for name, text in pictures(load(DATA)).items():
        assert (PAGE.parent / name).read_text(encoding="utf-8") == text, "run: python tools/performance.py"
        assert f"]({name})" in page


def test_another_figure_measured_is_another_page():
    data = load(DATA)
    text = rewritten(PAGE.read_text(encoding="utf-8"), data)
    for title in data["tables"]:
        changed = json.loads(json.dumps(data))
        rows = changed["tables"][title]["rows"]
        first = next(iter(rows))
        rows[first] = [999.0] * 3 if isinstance(rows[first], list) else {**rows[first], "median": 12.3, "times": 2}
        assert rewritten(text, changed) != text, f"{title} is not on the page"


def test_a_page_without_a_block_of_figures_is_refused():
    text = PAGE.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="each of these blocks once"):
        rewritten(text.replace("<!-- figures: flood -->", ""), load(DATA))
    assert sorted(re.findall("<!-- figures: ([a-z-]+) -->", text)) == sorted(BLOCKS)


def test_data_of_another_version_are_refused(tmp_path):
    (tmp_path / "found.json").write_text('{"sluicegate-performance": 0}')
    with pytest.raises(ValueError, match='expected "sluicegate-performance": 1'):
        load(tmp_path / "found.json")


def test_an_aim_that_one_server_misses_is_not_met():
    both = aims({"aims": [aim(9, "Valkey 9.1.2", met=True), aim(7, "Redis 7.0.15", met=False)]})
    assert both.startswith("0 of 1 are met.")
    assert "| Valkey&nbsp;9, Redis&nbsp;7 | **not on Redis** |" in both
    assert aims({"aims": [aim(7, "Valkey 9.1.2", met=False)]}).endswith("| Valkey&nbsp;7 | **no** |")
    assert aims({"aims": [aim(9, "Valkey 9.1.2", met=True)]}).endswith("| Valkey&nbsp;9 | yes |")


def test_a_ratio_is_taken_round_by_round_so_that_drift_is_none_of_it():
    ours, floor = Spread.of([2, 4, 200, 8, 10]), Spread.of([1, 2, 100, 4, 5])
    assert ours.times(floor) == 2
    assert Spread.of([3, 1, 30]).times(Spread.of([1, 1, 3])) == 3


def test_what_grows_by_the_same_factor_goes_up_by_the_same_length():
    svg = drawn(Line("ours", "ours", [(1, 100), (10, 1_000), (100, 10_000), (1_000, 100_000)]))
    points = marks(svg, "ours")
    assert {round(b[0] - a[0]) for a, b in pairwise(points)} == {round((points[-1][0] - points[0][0]) / 3)}
    assert max(a[1] - b[1] for a, b in pairwise(points)) - min(a[1] - b[1] for a, b in pairwise(points)) < 0.3


def test_labels_at_the_ends_of_lines_do_not_touch_though_the_lines_do():
    svg = drawn(*[Line(f"line {n}", "peer", [(1, 100 + n), (10, 1_000 + n)]) for n in range(4)])
    places = sorted(float(t.get("y")) for t in svg.iter(f"{SVG}text") if "label" in t.get("class", ""))
    assert len(places) == 4
    assert all(below - above >= 20 for above, below in pairwise(places))
