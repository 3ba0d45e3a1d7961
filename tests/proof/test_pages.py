"""The documents on the proof kit: their examples run, and the cases, options and fields that they name exist."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.main import main as uvicorn_command

from proof import targets
from sluicegate._cli import cases as cases_command
from sluicegate._cli import grade as grade_command
from sluicegate._cli import judge as judge_command
from sluicegate.proof import CaseVerdict, History, Record
from sluicegate.proof.case import Case
from sluicegate.proof.cases import cases, correctness
from sluicegate.proof.environment import GradeSettings
from sluicegate.proof.facts import facts
from sluicegate.proof.grading import choose, grade
from sluicegate.proof.growth import Growth
from sluicegate.proof.judge import judge, never_over, never_under, over, unjustified
from sluicegate.proof.report import CaseResult, Report, data
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.target import parse
from sluicegate.proof.verdict import Finding

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGES = [
    *(DOCS / "how-to").glob("*.md"),
    *(DOCS / "explanation").glob("*.md"),
    *(DOCS / "reference").glob("*.md"),
    *DOCS.glob("adr/000[678]-*.md"),
]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_of_the_cases_is_up_to_date():
    path = DOCS.parent / "tools/cases_page.py"
    spec = importlib.util.spec_from_file_location("cases_page", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python tools/cases_page.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_case_that_is_named_exists(page: Path):
    sections = "|".join({case.section for case in cases()})
    named = re.findall(rf"`((?:{sections})/[a-z/-]+)`", page.read_text(encoding="utf-8"))
    new = {"correctness/window/saved-up"} if page.name == "add-a-case.md" else set()
    assert [name for name in named if name not in new and not choose([name], strict=True)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_is_named_exists(page: Path):
    commands = (cases_command.main, grade_command.main, judge_command.main)
    known = {name for command in commands for each in command.params for name in each.opts}
    assert "--strict" in known
    known |= {"--lift", "--limit"}  # of `sluicegate bans`; argparse has no public list of them
    known |= {"--host", "--port"}  # of `python -m app`
    # A page on proxies names options of the server, by their first word here.
    known |= {
        name[: name.index("-", 2)]
        for each in uvicorn_command.params
        for name in (*each.opts, *each.secondary_opts)
        if "-" in name[2:]
    }
    code = re.findall(r"```(?:sh|console)\n(.*?)```|`([^`\n]+)`", page.read_text(encoding="utf-8"), re.DOTALL)
    ours = [piece for piece in sum(code, ()) if not any(other in piece for other in ("redis-cli", "uvicorn", "docker"))]
    named = set(re.findall(r"(?<![\w-])--[a-z]+", " ".join(ours)))
    assert named <= known


@pytest.mark.parametrize("picture", [*(DOCS / "explanation").glob("*.svg")], ids=lambda picture: picture.name)
def test_a_picture_has_a_description_and_a_dark_theme(picture: Path):
    svg = "{http://www.w3.org/2000/svg}"
    root = ET.fromstring(picture.read_text(encoding="utf-8"))
    assert root.findtext(f"{svg}title")
    assert root.findtext(f"{svg}desc")
    pages = [page.read_text(encoding="utf-8") for page in (DOCS.parent / "README.md", *DOCS.glob("explanation/*.md"))]
    shown = [page for page in pages if picture.name in page]
    assert shown
    if "prefers-color-scheme: dark" not in root.findtext(f"{svg}style"):  # then the page chooses between two files
        light = picture.name.replace("-dark", "")
        dark = light.replace(".svg", "-dark.svg")
        assert all(f'media="(prefers-color-scheme: dark)" srcset="docs/explanation/{dark}"' in page for page in shown)
        assert all(light in page for page in shown)


# How to add a case


@pytest.mark.slow
def test_the_case_in_the_how_to_catches_the_fault_seeded_for_it(tmp_path: Path, monkeypatch):
    source, seeded, entry = blocks("how-to/add-a-case.md", "python")
    new = entered(source, monkeypatch)
    (tmp_path / "saves_up.py").write_text(seeded)
    assert "saves_up.py:SavesUp" in entry
    assert new.id in entry
    faulty, exact = (
        parse(f"{tmp_path / 'saves_up.py'}:SavesUp"),
        parse(f"{targets.SEEDED / 'correct_memory.py'}:SlidingWindow"),
    )
    for target, verdict in ((faulty, CaseVerdict.FAILED), (exact, CaseVerdict.PASSED)):
        (result,) = grade(target, GradeSettings(), [new]).results
        assert result.finding.verdict is verdict, result.finding.says


def entered(source: str, monkeypatch) -> Case:
    """Run the source of a case as if it were in its file, for this test alone."""
    monkeypatch.setattr("sluicegate.proof.case._cases", {})
    exec(compile(source, "add-a-case.md", "exec"), dict(vars(correctness)))
    (new,) = [case for case in cases() if case.run.__code__.co_filename == "add-a-case.md"]
    return new


# Histories


def test_the_history_in_the_reference_is_valid(tmp_path: Path):
    (example,) = blocks("reference/history.md", "jsonl")
    path = tmp_path / "history.jsonl"
    path.write_text(example)
    assert len(History.load(path).records) == 3
    fields = set().union(*(json.loads(line) for line in example.splitlines()))
    assert (
        fields
        == set(tables("reference/history.md"))
        == {"sluicegate-history", "limit", "window", "about", *Record._fields}
    )


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("node"), reason="NO JAVASCRIPT RECORDER RUN: apt-get install nodejs")
@pytest.mark.parametrize(("counts", "verdict"), [("Math.floor(now)", CaseVerdict.FAILED), ("0", CaseVerdict.PASSED)])
def test_a_history_that_another_language_records_is_judged(tmp_path: Path, counts: str, verdict: CaseVerdict):
    (script,) = blocks("how-to/grade-your-service.md", "js")
    (tmp_path / "record.mjs").write_text(script)
    (tmp_path / "limiter.mjs").write_text(JAVASCRIPT.replace("COUNTS", counts))
    done = subprocess.run(["node", "record.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    (tmp_path / "history.jsonl").write_text(done.stdout)
    assert never_over(History.load(tmp_path / "history.jsonl")).verdict is verdict


JAVASCRIPT = """
let current, taken;
export function allow(key) {
  const now = performance.now() / 1000;
  if (COUNTS !== current) { current = COUNTS; taken = {}; }
  taken[key] = (taken[key] ?? 0) + 1;
  return taken[key] <= 5;
}
"""


# Reports


def test_the_reference_names_every_field_of_a_report():
    growth = Growth("bytes", "limit", [1, 2, 4], [1, 2, 4])
    case = Case("a/b/c", "A sentence.", RubricLine.CORRECTNESS, lambda env: None)
    found = Finding(CaseVerdict.PASSED, "so it is", growth=growth)
    report = Report("a", 5, 1.0, (CaseResult(case, found, 0.1),), "2026-11-24", 1.0, facts=facts(Path(__file__)))
    plain = data.as_data(report)
    result = plain["results"][0]
    line = plain["rubric"]["correctness"]
    fields = [*plain, *line, *result, *result["growth"], *plain["facts"]]
    assert tables("reference/report.md") == fields
    assert set(json.loads(blocks("reference/report.md", "json")[0])) == set(result)


def tables(page: str) -> list[str]:
    """Return the names in the first column of every table of fields, in their order."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return [found[1] for line in lines if (found := re.match(r"\| `([a-z_-]+)` \| [a-z`]", line))]


# Verdicts


def test_the_example_of_the_explanation_is_true():
    (example,) = blocks("explanation/verdicts.md", "python")
    exec(compile(example, "verdicts.md", "exec"), {})


def test_the_conflict_that_the_explanation_says_is_missed_is_missed():
    records = [Record(0, 0, "a", 1, True), Record(0.9, 1.85, "a", 1, True), Record(1.95, 1.95, "a", 1, True)]
    assert never_over(History(1, 1.0, records)).verdict is not CaseVerdict.FAILED


_WIDENED = st.lists(
    st.builds(
        lambda start, took, cost, allowed, earlier, later: (
            Record(start, start + took, "a", cost, allowed),
            Record(start - earlier, start + took + later, "a", cost, allowed),
        ),
        st.integers(0, 15),
        st.integers(0, 3),
        st.just(1),
        st.sampled_from([True, True, True, False, None]),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    min_size=2,
    max_size=8,
)


@settings(max_examples=300)
@given(_WIDENED, st.integers(1, 3), st.integers(2, 10))
def test_delays_never_fail_a_limiter_nor_pass_an_undecided_one(
    pairs: list[tuple[Record, Record]], limit: int, window: int
):
    short, long = (History(limit, window, [pair[which] for pair in pairs]) for which in (0, 1))
    for before, after in zip(judge(short), judge(long), strict=True):
        if before.verdict is CaseVerdict.PASSED:
            assert after.verdict is not CaseVerdict.FAILED
        # A fault that a stall may explain is undecided, and may hide in longer intervals as any other fault.
        if before.verdict is CaseVerdict.UNDECIDED and not unjustified(short.records, limit, window):
            assert after.verdict is not CaseVerdict.PASSED
    if not over(short.records, limit, window):
        assert not over(long.records, limit, window)
    if not unjustified(short.records, limit, window):
        assert never_under(long).verdict is not CaseVerdict.FAILED


def test_a_fault_can_hide_in_long_intervals():
    full = [Record(n / 10, n / 10, "b", 1, True) for n in range(2)]
    over = [Record(0, 0, "a", 1, True), Record(0.1, 0.1, "a", 1, True), Record(0.2, 0.2, "a", 1, True)]
    assert never_over(History(2, 1.0, [*over, *full])).verdict is CaseVerdict.FAILED
    hidden = [*over[:2], over[2]._replace(end=1.5), *full, Record(0.2, 0.2, "b", 1, False)]
    assert never_over(History(2, 1.0, hidden)).verdict is CaseVerdict.PASSED
    assert never_under(History(2, 1.0, hidden)).verdict is CaseVerdict.PASSED


def test_a_history_that_shows_nothing_is_undecided():
    for records in ([], [Record(0, 0, "a", 1, True)]):
        assert {finding.verdict for finding in judge(History(2, 1.0, records))} == {CaseVerdict.UNDECIDED}


def test_the_list_of_timed_cases_names_all_cases_that_are_marked_timed():
    text = (DOCS / "explanation/verdicts.md").read_text(encoding="utf-8").partition("## Timed cases")[2]
    named = re.findall(r"^\| `([a-z/-]+)` \|", text, re.MULTILINE)
    assert {case.id for case in cases() if case.timed} == {case.id for case in choose(named, strict=True)}
