"""The browser of the tests that look at pages: Chromium, wherever it is installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

HOW_TO_GET_ONE = "apt-get install chromium, or name one in SLUICEGATE_TEST_CHROMIUM"

_COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
_PLACES = (
    "/snap/bin/chromium",
    "/usr/lib/chromium/chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
_PLAYWRIGHTS = ("chromium-*/chrome-linux*/chrome", "chromium-*/chrome-mac*/Chromium.app/Contents/MacOS/Chromium")


def chromium() -> str | None:
    """Return the path of a browser: the one that is named, one on the path or where it is usually put; else None."""
    named = os.environ.get("SLUICEGATE_TEST_CHROMIUM")
    if named:
        return named
    found = next(filter(None, map(shutil.which, _COMMANDS)), None) or next(filter(os.path.exists, _PLACES), None)
    return found or _downloaded_by_playwright()


def _downloaded_by_playwright() -> str | None:
    cache = os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or (
        Path.home() / ("Library/Caches" if os.uname().sysname == "Darwin" else ".cache") / "ms-playwright"
    )
    return next(
        (str(path) for pattern in _PLAYWRIGHTS for path in sorted(Path(cache).glob(pattern), reverse=True)), None
    )
