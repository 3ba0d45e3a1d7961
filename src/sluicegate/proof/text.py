"""Format text and numbers for people. Text that a target chose, such as keys and output, is hostile and escaped."""

from __future__ import annotations

import math


def plain(text: str, longest: int = 2000) -> str:
    r"""Return text as one line, with control, formatting and unassigned characters escaped: ``\x1b``.

    Args:
        text: Any text.
        longest: The most characters to keep; the rest is replaced by ``...``.
    """
    if len(text) > longest:
        text = text[:longest] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def last_lines(text: str, count: int) -> list[str]:
    """Return the last lines of an output that are not blank, each made `plain`."""
    lines = [line.expandtabs(4).rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    return [plain(line, 500) for line in lines if line][-count:]


def number(value: float, digits: int = 3) -> str:
    """Write a number with that many significant digits, but never fewer than those of its whole part."""
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
    """Write a span with as many digits as it takes to differ from the longer one: 0.9996 s must not read as 1 s."""
    return next((text for digits in range(3, 12) if (text := seconds(span, digits)) != seconds(than, digits)), "less")


def counted(count: int, noun: str) -> str:
    """Write ``1 case``, ``2 cases``."""
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {noun}s"
