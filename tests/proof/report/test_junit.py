"""The report as JUnit XML."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import demo_report

from sluicegate.proof.report.junit import text

SUITE = ET.fromstring(text(demo_report.demo()))


def test_a_case_has_its_whole_id_as_its_name():
    assert {case.get("name") for case in SUITE} == {result.case.id for result in demo_report.demo().results}
    assert {case.get("classname") for case in SUITE} == {"correctness", "concurrency", "performance", "resilience"}


def test_a_failure_holds_the_sentence_of_the_case_and_the_evidence():
    failure = SUITE.find("testcase[@name='concurrency/threads/together']/failure")
    assert failure is not None and failure.text
    sentence, seen = failure.text.splitlines()
    assert sentence == "Of many threads released together exactly N are allowed."
    assert seen == failure.get("message") == "25 of 100 requests that were sent at once were allowed; the limit is 20."
