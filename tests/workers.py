"""Which worker of pytest-xdist has which tests: each goes to the next that is free, but for a few files."""

from __future__ import annotations

from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

# More gradings at once than these files start, and the machine would be what is measured. One browser is enough, and so
# is one image.
_TOGETHER = {
    "tests/proof/test_grading_sluicegate.py": "gradings",
    "tests/proof/test_seeded_faults.py": "gradings",
    "tests/proof/test_stalled_servers.py": "gradings",
    "tests/proof/report/test_page_in_browser.py": "browser",
    "tests/service/test_image.py": "image",
}
for _path in _TOGETHER:
    assert Path(__file__).parents[1].joinpath(_path).exists(), f"{_path} was renamed or is gone: name it anew here"


class Scheduling(LoadScopeScheduling):
    """One worker has all tests of a scope, and the scopes with the most tests come first; other tests are alone in one.

    Not the scheduling by groups that pytest-xdist brings: with pytest 9.2 it groups nothing, and does not say so
    (https://github.com/pytest-dev/pytest-xdist/issues/1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        return _TOGETHER.get(nodeid.partition("::")[0], nodeid)
