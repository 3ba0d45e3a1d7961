"""Print a report to a terminal. All text is escaped by `text.plain` and put in `rich.text.Text`, never in markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sluicegate.proof.facts import Facts
from sluicegate.proof.report import CaseResult, Report
from sluicegate.proof.report.requests import Row, last_requests
from sluicegate.proof.report.summary import BY_SEVERITY, SYMBOLS, Summary, by_reason, one_line_summary, summaries
from sluicegate.proof.rubric import QUESTIONS, Question, ordered
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


def render(report: Report, console: Console, *, verbose: bool = False) -> None:
    """Print the report. The most important parts come last: what failed, the rubric, and the summary in one line.

    Args:
        report: The report.
        console: Where to print it.
        verbose: Whether to print the cases that passed and the ids of those that were skipped, not just their number.
    """
    ascii_only = console.options.ascii_only
    shown: list[RenderableType] = [_head(report)]
    for section, results in groupby(report.results, key=lambda result: result.case.section):
        shown += _section(section, tuple(results), ascii_only=ascii_only, verbose=verbose)
    if report.facts:
        shown += [_title("the code, measured"), _facts(report.facts)]
    if report.questions:
        shown += [_title("questions to ask"), _questions(report)]
    if report.failed:
        shown += [_title("what failed"), *_failures(report, ascii_only=ascii_only)]
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


def _section(name: str, results: tuple[CaseResult, ...], *, ascii_only: bool, verbose: bool) -> list[RenderableType]:
    counts = Counter(result.finding.verdict for result in results)
    title = _title(name)
    for number_, verdict in enumerate(verdict for verdict in BY_SEVERITY if counts[verdict]):
        title.append(", " if number_ else "  ", "not bold not underline")
        title.append(f"{counts[verdict]} {verdict}", f"not bold not underline {_STYLES[verdict]}")
    shown: list[RenderableType] = [title]
    collapsed = {CaseVerdict.SKIPPED} if verbose else {CaseVerdict.SKIPPED, CaseVerdict.PASSED}
    rows = [result for result in results if result.finding.verdict not in collapsed]
    if rows:
        table = _table("verdict", "case", "time")
        for result in rows:
            took = Text(seconds(result.seconds) + (f"\n{result.runs} runs" if result.runs > 1 else ""), "dim")
            table.add_row(_verdict(result.finding.verdict, ascii_only=ascii_only), _case(result), took)
        shown.append(table)
    for reason, skipped in by_reason(results).items():
        shown.append(_skipped(reason, skipped, ascii_only=ascii_only, verbose=verbose))
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
        shown += [_requests(rows)] if (rows := last_requests(result.finding)) else []
        shown += [Text(f"> {line}", "dim") for line in last_lines(result.finding.output, _OUTPUT_LINES)]
    return Group(*shown)


def _requests(rows: list[Row]) -> Padding:
    table = Table(box=None, pad_edge=False, header_style="dim", style="dim")
    for name in ("its last requests", "took", "cost", "answer"):
        table.add_column(name, justify="left" if name == "answer" else "right", no_wrap=True)
    for row in rows:
        table.add_row(row.sent, row.took, row.cost, row.answer, style="not dim" if row.shown else "")
    return Padding(table, (1, 0, 0, 0))


def _failures(report: Report, *, ascii_only: bool) -> Iterator[Group]:
    symbol = (_ASCII if ascii_only else SYMBOLS)[CaseVerdict.FAILED]
    for result in report.results:
        if result.finding.verdict is CaseVerdict.FAILED:
            text = Text(no_wrap=True, overflow="crop" if ascii_only else "ellipsis")
            text.append(f"{symbol} {result.case.id}", _STYLES[CaseVerdict.FAILED])
            yield Group(text.append(f"  {plain(result.finding.says)}"))  # printed alone, a text is wrapped all the same


def _skipped(reason: str, results: list[CaseResult], *, ascii_only: bool, verbose: bool) -> Padding:
    text = _verdict(CaseVerdict.SKIPPED, ascii_only=ascii_only)
    text.append(f" {counted(len(results), 'case')}: {plain(reason)}", "not dim")
    if verbose:
        text.append("\n" + " ".join(result.case.id for result in results))
    return Padding(text, (verbose, 0, 0, 0))


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


def _questions(report: Report) -> Group:
    about = [each for questions in QUESTIONS.values() for each in ordered(questions, report.failed) if each[1]]
    shown: list[RenderableType] = [Text("about what failed", "dim")] if about else []
    for question, ids in about:
        shown.append(_question(question).append(f"  {' '.join(ids)}", "dim"))
    for line, questions in QUESTIONS.items():
        others = [question for question, ids in ordered(questions, report.failed) if not ids]
        shown += [Text(line.value, "dim"), *map(_question, others)] if others else []
    return Group(*shown)


def _question(question: Question) -> Text:
    return Text(f"  {question.text}")


def _rubric(lines: list[Summary], *, ascii_only: bool) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for summary in lines:
        verdict = _verdict(summary.verdict, ascii_only=ascii_only)
        table.add_row(Text(summary.line.value), verdict, Text(summary.says))
    return table
