"""A report as JUnit XML, the form in which CI systems read results."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from sluicegate.proof.report import Report, Result
from sluicegate.proof.report.text import plain
from sluicegate.proof.verdict import Verdict

_WORDS = {Verdict.FAILED: "failure", Verdict.UNDECIDED: "error", Verdict.SKIPPED: "skipped"}


def text(report: Report) -> str:
    """Return the XML: a test case for each case. One that stayed undecided is an error, as nothing is known of it."""
    counts = report.counts
    suite = ET.Element(
        "testsuite",
        name=plain(f"sluicegate grade {report.target}"),
        tests=str(len(report.results)),
        failures=str(counts[Verdict.FAILED]),
        errors=str(counts[Verdict.UNDECIDED]),
        skipped=str(counts[Verdict.SKIPPED]),
        time=f"{report.seconds:.3f}",
        timestamp=report.made_at,
    )
    for result in report.results:
        _enter(suite, result)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _enter(suite: ET.Element, result: Result) -> None:
    finding = result.finding
    about = {"classname": result.case.section, "name": result.case.id, "time": f"{result.seconds:.3f}"}
    case = ET.SubElement(suite, "testcase", about)
    word = _WORDS.get(finding.verdict)
    if word:
        detail = ET.SubElement(case, word, message=plain(finding.says))
        detail.text = f"{plain(result.case.sentence)}\n{plain(finding.says)}"
    if finding.output:
        ET.SubElement(case, "system-out").text = "\n".join(plain(line) for line in finding.output.splitlines())
