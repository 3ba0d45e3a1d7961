"""Write a report as one HTML page without scripts or requests; `timeline` and `curve` lay out its drawings.

Charting libraries are not used: they need scripts or fixed colours, and the page has a strict content policy, two
themes and a layout for paper.
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

from sluicegate.proof.report import CaseResult, Report, curve, timeline
from sluicegate.proof.report.requests import last_requests
from sluicegate.proof.report.summary import (
    BY_SEVERITY,
    JUDGED_BY_PEOPLE,
    MEANINGS,
    SYMBOLS,
    by_reason,
    one_line_summary,
    summaries,
)
from sluicegate.proof.report.window import Window, worst
from sluicegate.proof.rubric import DESCRIPTIONS, QUESTIONS, RubricLine, ordered
from sluicegate.proof.text import counted, last_lines, number, plain, seconds
from sluicegate.proof.verdict import CaseVerdict


def page(report: Report) -> str:
    """Return the page as HTML. All text from the target is escaped."""
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            report=report,
            style=Markup(style),  # noqa: S704 - a file in this package
            digest=digest,
            says=one_line_summary(report),
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
        "RubricLine": RubricLine,
        "CaseVerdict": CaseVerdict,
        "BY_SEVERITY": BY_SEVERITY,
        "MEANINGS": MEANINGS,
        "JUDGED_BY_PEOPLE": JUDGED_BY_PEOPLE,
        "SYMBOLS": SYMBOLS,
        "DESCRIPTIONS": DESCRIPTIONS,
        "QUESTIONS": QUESTIONS,
        "by_reason": by_reason,
        "ordered": ordered,
        "last_lines": last_lines,
        "last_requests": last_requests,
        "window_of": _window_of,
        "timeline": timeline,
        "curve": curve,
    }
    return environment


def _window_of(result: CaseResult) -> Window | None:
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
