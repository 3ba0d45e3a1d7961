"""Write a report as JUnit XML, the format in which CI systems read results."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from sluicegate.proof.report import CaseResult, Report
from sluicegate.proof.text import plain
from sluicegate.proof.verdict import CaseVerdict

_WORDS = {CaseVerdict.FAILED: "failure", CaseVerdict.UNDECIDED: "error", CaseVerdict.SKIPPED: "skipped"}


def text(report: Report) -> str:
    """Return the XML: a test case for each case. An undecided one is an error, for it neither passed nor failed."""
    counts = report.counts
    suite = ET.Element(
        "testsuite",
        name=plain(f"sluicegate grade {report.target}"),
        tests=str(len(report.results)),
        failures=str(counts[CaseVerdict.FAILED]),
        errors=str(counts[CaseVerdict.UNDECIDED]),
        skipped=str(counts[CaseVerdict.SKIPPED]),
        time=f"{report.seconds:.3f}",
        timestamp=report.made_at,
    )
    for result in report.results:
        _add(suite, result)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _add(suite: ET.Element, result: CaseResult) -> None:
    finding = result.finding
    about = {"classname": result.case.section, "name": result.case.id, "time": f"{result.seconds:.3f}"}
    case = ET.SubElement(suite, "testcase", about)
    word = _WORDS.get(finding.verdict)
    if word:
        detail = ET.SubElement(case, word, message=plain(finding.says))
        detail.text = f"{plain(result.case.sentence)}\n{plain(finding.says)}"
    if finding.output:
        ET.SubElement(case, "system-out").text = "\n".join(plain(line) for line in finding.output.splitlines())
