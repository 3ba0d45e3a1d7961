"""Print a report to a terminal. All text is escaped by `text.plain` and put in `rich.text.Text`, never in markup."""

from __future__ import annotations

from itertools import groupby

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sluicegate.proof.facts import Facts
from sluicegate.proof.report import CaseResult, Report
from sluicegate.proof.report.summary import SYMBOLS, Summary, by_reason, one_line_summary, summaries
from sluicegate.proof.rubric import QUESTIONS
from sluicegate.proof.text import counted, last_lines, number, plain, seconds
from sluicegate.proof.verdict import CaseVerdict

_OUTPUT_LINES = 8
_STYLES = {
    CaseVerdict.PASSED: "green",
    CaseVerdict.FAILED: "bold red",
    CaseVerdict.UNDECIDED: "yellow",
    CaseVerdict.SKIPPED: "dim",
}
_ASCII = {CaseVerdict.PASSED: "+", CaseVerdict.FAILED: "x", CaseVerdict.UNDECIDED: "?", CaseVerdict.SKIPPED: "-"}


def render(report: Report, console: Console) -> None:
    """Print the report. The most important parts come last: the rubric and the summary in one line."""
    ascii_only = console.options.ascii_only
    shown: list[RenderableType] = [_head(report)]
    for section, results in groupby(report.results, key=lambda result: result.case.section):
        shown += _section(section, tuple(results), ascii_only=ascii_only)
    if report.facts:
        shown += [_title("the code, measured"), _facts(report.facts)]
    if report.questions:
        shown += [_title("questions to ask"), _questions()]
    shown += [_title("the rubric"), _rubric(summaries(report), ascii_only=ascii_only), Text()]
    shown.append(Text(one_line_summary(report), _STYLES[CaseVerdict.FAILED] if report.exit_code == 1 else "bold"))
    for renderable in shown:
        console.print(renderable, highlight=False)


def _head(report: Report) -> Text:
    text = Text(plain(report.target, 300), "bold")
    text.append(f"\nheld to {counted(report.limit, 'unit')} in any {seconds(report.window)}", "not bold")
    text.append(f"; {counted(len(report.results), 'case')} in {seconds(report.seconds)}; {report.made_at}", "not bold")
    versions = ", ".join(f"{plain(name, 40)} {plain(version, 40)}" for name, version in report.versions.items())
    return text.append(f"\n{versions}", "not bold dim") if versions else text


def _title(text: str) -> Text:
    return Text(f"\n{text}", "bold underline")


def _section(name: str, results: tuple[CaseResult, ...], *, ascii_only: bool) -> list[RenderableType]:
    shown: list[RenderableType] = [_title(name)]
    run = [result for result in results if result.finding.verdict is not CaseVerdict.SKIPPED]
    if run:
        table = _table("verdict", "case", "time")
        for result in run:
            took = Text(seconds(result.seconds) + (f"\n{result.runs} runs" if result.runs > 1 else ""), "dim")
            table.add_row(_verdict(result.finding.verdict, ascii_only=ascii_only), _case(result), took)
        shown.append(table)
    for reason, skipped in by_reason(results).items():
        shown.append(_skipped(reason, skipped, ascii_only=ascii_only))
    return shown


def _table(*names: str) -> Table:
    table = Table(box=box.HORIZONTALS, show_edge=False, show_lines=True, pad_edge=False, expand=True)
    first, second, last = names
    table.add_column(first, width=11, no_wrap=True)
    table.add_column(second, ratio=1, overflow="fold")
    table.add_column(last, width=9, justify="right")
    return table


def _verdict(verdict: CaseVerdict | None, *, ascii_only: bool) -> Text:
    if verdict is None:
        return Text()
    return Text(f"{(_ASCII if ascii_only else SYMBOLS)[verdict]} {verdict}", _STYLES[verdict])


def _case(result: CaseResult) -> Group:
    marks = " (should)" * result.case.should + " (timed)" * result.case.timed
    shown: list[RenderableType] = [Text(plain(result.case.sentence)), Text(result.case.id + marks, "dim")]
    if result.finding.verdict is not CaseVerdict.PASSED:
        shown.append(Padding(Text(plain(result.finding.says), _STYLES[result.finding.verdict]), (1, 0, 0, 0)))
        shown += [Text(f"> {line}", "dim") for line in last_lines(result.finding.output, _OUTPUT_LINES)]
    return Group(*shown)


def _skipped(reason: str, results: list[CaseResult], *, ascii_only: bool) -> Padding:
    text = _verdict(CaseVerdict.SKIPPED, ascii_only=ascii_only)
    text.append(f" {counted(len(results), 'case')}: {plain(reason)}", "not dim")
    text.append("\n" + " ".join(result.case.id for result in results))
    return Padding(text, (1, 0, 0, 0))


def _facts(facts: Facts) -> Group:
    functions, definitions = counted(facts.functions, "function"), counted(facts.definitions, "definition")
    longest = f", the longest {plain(facts.longest, 60)} with {counted(facts.longest_lines, 'line')}"
    said = (
        plain(facts.path, 300),
        f"{counted(facts.lines, 'line')} without the blank ones; {number(facts.comments)} of them comments",
        functions + (longest if facts.longest else ""),
        f"{number(facts.annotated)} of {functions} with all types",
        f"{number(facts.documented)} of {definitions} with a docstring",
        f"{counted(len(facts.tests), 'test')}; {number(facts.sleeping_tests)} of them sleep",
    )
    return Group(*(Text(line) for line in said))


def _questions() -> Group:
    shown: list[RenderableType] = []
    for line, questions in QUESTIONS.items():
        shown.append(Text(line.value, "dim"))
        shown += [Padding(Text(question), (0, 0, 0, 2)) for question in questions]
    return Group(*shown)


def _rubric(lines: list[Summary], *, ascii_only: bool) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for summary in lines:
        verdict = _verdict(summary.verdict, ascii_only=ascii_only)
        table.add_row(Text(summary.line.value), verdict, Text(summary.says))
    return table
