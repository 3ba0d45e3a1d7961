"""The comparison of the peers: how findings are counted, and that the page in the documents matches its data."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sluicegate.proof.cases import cases
from sluicegate.proof.report import CaseResult, Report
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.verdict import CaseVerdict, Finding

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import web_traps_page
from comparison import Graded, escaped, load, page, save, why
from table import PEERS, ROOT, Meant, Peer

EXACT, EDGE = "correctness/limit/exact", "correctness/edge/before"
BUCKET = Meant("It is a bucket.", ("correctness/edge",), "units were allowed")


def peer(*meant: Meant) -> Peer:
    return Peer("bucket-memory", "bucket", "token bucket", "memory", "adapter.py:bucket", "A bucket.", meant)


def graded(**findings: Finding) -> Graded:
    """Grade as a report with these findings would: by id of a case, with its slashes and dashes as underscores."""
    found = {name.replace("_", "/", 2): finding for name, finding in findings.items()}
    results = tuple(CaseResult(case, found[case.id], 0.1) for case in cases() if case.id in found)
    report = Report(
        "bucket", 5, 1.0, results, "2026-01-02T03:04:05+00:00", 9.0, {"Python": "3.12.1", "sluicegate": "1.0"}
    )
    return Graded.of(report, {**report.versions, "bucket": "2.0"}, "Linux, 2 cores")


def failed(says: str) -> Finding:
    return Finding(CaseVerdict.FAILED, says)


def shown(found: Graded, *meant: Meant) -> str:
    return page([peer(*meant)], {"bucket-memory": found})


def row(text: str) -> list[str]:
    """Return the cells of the limiter's row, the sections in the order of the report."""
    line = next(line for line in text.splitlines() if line.startswith("| [bucket-memory]"))
    return [cell.strip().replace("&nbsp;", " ") for cell in line.split("|")[3:-1]]


def test_a_window_that_a_peer_does_not_offer_is_not_a_failure():
    found = graded(correctness_window_fractional=failed("the target raised ValueError: x: the window must be whole s"))
    assert not found.failed
    text = shown(found)
    assert "Not offered: windows of less than a second" in text
    assert "✗ `" not in text


def test_another_error_that_a_peer_raises_is_a_failure():
    found = graded(correctness_window_fractional=failed("the target raised ValueError: limit must be below 100"))
    assert "✗ `correctness/window/fractional`" in shown(found)


def test_a_feature_that_a_peer_lacks_is_listed_and_not_counted():
    found = graded(
        correctness_limit_exact=Finding(CaseVerdict.PASSED, "5 allowed"),
        honesty_peek_free=Finding(CaseVerdict.SKIPPED, Requirement.PEEK.value),
    )
    text = shown(found)
    assert "Passed 1 of 1 case." in text
    assert "Not offered: a peek that takes nothing." in text
    assert row(text)[4] == ""


def test_a_failure_is_intended_only_for_the_cases_and_the_evidence_of_its_entry():
    bucket = peer(BUCKET)
    assert why(bucket, EDGE, "8 units were allowed to 'a'") == BUCKET.why
    assert why(bucket, "correctness/edges/before", "8 units were allowed to 'a'") is None
    assert why(bucket, EXACT, "8 units were allowed to 'a'") is None
    assert why(bucket, EDGE, "'a' was denied though its window held 0 of 5 units") is None


def test_more_than_twice_the_limit_is_never_intended():
    bucket = peer(BUCKET)
    assert why(bucket, EDGE, "10 units were allowed to 'a; the limit is 99' within 0.9 s, less; the limit is 5")
    assert why(bucket, EDGE, "11 units were allowed to 'a; the limit is 99' within 0.9 s, less; the limit is 5") is None


def test_the_table_counts_each_verdict_of_a_section_and_recommendations_apart():
    found = graded(
        correctness_limit_exact=Finding(CaseVerdict.PASSED, "as it should be"),
        correctness_edge_before=failed("8 units were allowed to 'a'"),
        correctness_edge_after=failed("'a' was denied"),
        **{"performance_redis_round-trips": failed("2.00 round trips a decision")},
        honesty_wait_enough=Finding(CaseVerdict.UNDECIDED, "no denial reported a wait"),
    )
    assert row(shown(found, BUCKET)) == ["✓ 1 ✗ 1 ≈ 1", "", "", "", "? 1", "✗ 1"]


def test_each_failure_has_its_sentence_and_its_evidence_and_an_intended_one_its_reason():
    found = graded(correctness_edge_before=failed("8 units were allowed"), correctness_limit_exact=failed("6 of 5"))
    text = shown(found, BUCKET)
    sentence = next(case.sentence for case in cases() if case.id == EXACT)
    assert f"- ✗ `{EXACT}`: {sentence} *6 of 5*" in text
    assert text.index("- ✗ `") < text.index(f"\n{BUCKET.why}\n") < text.index(f"- ≈ `{EDGE}`")


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[a](https://example.com)",
        "`code`",
        "| a | b |",
        "*a* _b_ ~c~",
        "# a",
        "&lt;",
        "$x$",
    ],
)
def test_evidence_is_shown_literally(text):
    marks = set("\\`*_{}[]<>#|~$&@:")
    shown_as = escaped(text)
    assert shown_as.replace("\\", "") == text
    assert all(before == "\\" for before, mark in zip(f" {shown_as}", shown_as, strict=False) if mark in marks - {"\\"})


def test_evidence_of_many_lines_becomes_one_line():
    assert escaped("a\nb\x1b[31m") == "a\\\\nb\\\\x1b\\[31m"


def test_saved_results_are_loaded_unchanged(tmp_path):
    found = {"bucket-memory": graded(correctness_edge_before=failed("8 units"), honesty_peek_free=failed("took 1"))}
    save(found, tmp_path / "found.json")
    assert load(tmp_path / "found.json") == found
    assert load(tmp_path / "missing.json") == {}


def test_data_of_another_version_are_rejected(tmp_path):
    (tmp_path / "found.json").write_text('{"sluicegate-comparison": 0, "limiters": {}}')
    with pytest.raises(ValueError, match='expected "sluicegate-comparison": 1'):
        load(tmp_path / "found.json")


def test_a_case_that_no_longer_exists_is_left_out():
    found = graded(correctness_edge_before=failed("8 units"))
    assert "gone/for/ever" not in shown(Graded(**{**vars(found), "failed": {"gone/for/ever": "says"}}))


def test_every_intended_failure_names_existing_cases():
    ids = [case.id for case in cases()]
    for each in PEERS:
        for meant in each.meant:
            for begins in meant.ids:
                assert any(id_ == begins or id_.startswith(f"{begins}/") for id_ in ids), (each.name, begins)


def test_every_row_has_a_unique_name_and_an_existing_adapter():
    assert len({each.name for each in PEERS}) == len(PEERS)
    for each in PEERS:
        assert (ROOT / each.adapter).is_file(), each.name


def test_the_page_in_the_documents_matches_its_data():
    found = load(ROOT / "docs" / "comparison.json")
    text = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    in_fastapi = web_traps_page.section(web_traps_page.load())
    assert text == page(PEERS, found, in_fastapi), "run tools/compare.py --from-json"
