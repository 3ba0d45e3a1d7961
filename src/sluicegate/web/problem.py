"""Problem documents: the bodies of error responses.

Source: RFC 9457 for their form; "Problem Types" in the draft named in `sluicegate.web.headers` for the three types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sluicegate._core.decision import Decision
from sluicegate.web.headers import retry_after

MEDIA_TYPE = "application/problem+json"

_TYPES = "https://iana.org/assignments/http-problem-types#"


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem, for a program (``type``, ``status``, ``members``) and for a person (``title``, ``detail``).

    The type ``about:blank`` adds nothing to the status; the title is then the status's own phrase (RFC 9457, 4.2.1).
    """

    status: int
    title: str
    detail: str
    type: str = "about:blank"
    members: Mapping[str, object] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """Return the JSON object, its extension members last."""
        return {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }


def quota_exceeded(decision: Decision) -> Problem:
    """Return the problem of a denied decision: which policies denied it, and when it could be allowed."""
    never = "It costs more than is ever allowed at once" if decision.limit else "No request is allowed"
    detail = f"Denied by policy {decision.policy}, whose limit is {decision.limit}. {_advice(decision) or never}."
    return _denial(decision, "Quota Exceeded", "quota-exceeded", detail)


def abnormal_usage_detected(decision: Decision) -> Problem:
    """Return the problem of a request whose key is banned: which policies deny it, and until when."""
    detail = f"Too many requests were denied, so none is allowed for a while. {_advice(decision) or 'Try again later'}."
    return _denial(decision, "Abnormal Usage Detected", "abnormal-usage-detected", detail)


def _denial(decision: Decision, title: str, name: str, detail: str) -> Problem:
    violated = [part.policy for part in decision.decisions if not part.allowed]
    return Problem(429, title, detail, f"{_TYPES}{name}", {"violated-policies": violated})


def _advice(decision: Decision) -> str | None:
    wait = retry_after(decision)
    return None if wait is None else f"Try again in {wait} s"


def temporary_reduced_capacity() -> Problem:
    """Return the problem of a request without a decision. It names no policy, as none was exceeded, and no store."""
    return Problem(
        status=503,
        title="Temporary Reduced Capacity",
        detail="Requests cannot be counted at the moment, so none is allowed. Try again shortly.",
        type=f"{_TYPES}temporary-reduced-capacity",
    )
