"""A report as one page that needs nothing else: no script, no request. Drawn by `timeline` and `curve`, told by Jinja.

No charting library: they ship scripts or fixed colours, and the page has a strict policy, two themes and paper to keep.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sluicegate.proof.report import Report, Result, curve, timeline
from sluicegate.proof.report.summary import GRAVEST, MEANS, PERSONS, SYMBOLS, by_reason, in_a_line, summaries
from sluicegate.proof.report.text import counted, last_lines, number, plain, seconds
from sluicegate.proof.report.window import Window, worst
from sluicegate.proof.rubric import QUESTIONS, SAYS, Line
from sluicegate.proof.verdict import Verdict


def page(report: Report) -> str:
    """Return the page, HTML in UTF-8. All text that is not the kit's own is escaped in it."""
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            report=report,
            style=Markup(style),  # noqa: S704 - a file of this package
            digest=digest,
            says=in_a_line(report),
            summaries=summaries(report),
            made_at=_made_at(report.made_at),
        )
    )


@cache
def _environment() -> Environment:
    loader = PackageLoader("sluicegate.proof.report", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "plain": plain,
        "seconds": seconds,
        "number": number,
        "counted": counted,
        "slug": _slug,
        "px": _px,
    }
    environment.globals |= {
        "Line": Line,
        "Verdict": Verdict,
        "GRAVEST": GRAVEST,
        "MEANS": MEANS,
        "PERSONS": PERSONS,
        "SYMBOLS": SYMBOLS,
        "SAYS": SAYS,
        "QUESTIONS": QUESTIONS,
        "by_reason": by_reason,
        "last_lines": last_lines,
        "window_of": _window_of,
        "timeline": timeline,
        "curve": curve,
    }
    return environment


def _window_of(result: Result) -> Window | None:
    finding = result.finding
    return worst(finding.history, finding.at) if finding.history else None


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text)


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _made_at(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{at.day} {at:%B %Y, %H:%M} {at:%Z}".rstrip()
