"""Words and numbers as a person reads them. What a target chose, its keys and its output, is hostile: it is escaped."""

from __future__ import annotations

import math


def plain(text: str, longest: int = 2000) -> str:
    r"""Return one line without control, formatting or unassigned characters: each is shown as its escape, ``\x1b``.

    Args:
        text: Anything.
        longest: Characters of it that are kept; what was cut off shows as ``...``.
    """
    if len(text) > longest:
        text = text[:longest] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def last_lines(text: str, count: int) -> list[str]:
    """Return the last lines of an output that hold more than spaces, each `plain`."""
    lines = [line.expandtabs(4).rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    return [plain(line, 500) for line in lines if line][-count:]


def number(value: float, digits: int = 3) -> str:
    """Write a number with that many significant digits, all digits of its whole part, and no exponent in between."""
    if not math.isfinite(value) or (value and not 1e-9 < abs(value) < 1e15):
        return f"{value:.{digits}g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    whole, _, part = f"{value:.{decimals}f}".partition(".")
    whole = f"{int(whole):,}".replace(",", " ") if abs(value) >= 10_000 else whole
    return f"{whole}.{part}".rstrip("0").rstrip(".") if part else whole


def seconds(value: float, digits: int = 3) -> str:
    """Write a span with its unit: ``0.42 s``, ``3.1 ms``, ``42 µs``."""
    size = abs(value)
    scale, unit = (1.0, "s") if size >= 0.1 or not size else (1e3, "ms") if size >= 1e-4 else (1e6, "µs")
    return f"{number(value * scale, digits)} {unit}"


def shorter(span: float, than: float) -> str:
    """Write a span with as many digits as it takes to tell it from the longer one: 0.9996 s is no 1 s."""
    return next((text for digits in range(3, 12) if (text := seconds(span, digits)) != seconds(than, digits)), "less")


def counted(count: int, noun: str) -> str:
    """Write ``1 case``, ``2 cases``."""
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {noun}s"
