"""The pytest plugin: the fixture ``sluicegate``, and the option ``sluicegate_enabled``.

pytest imports it in every environment that has Sluicegate, so it imports nothing of the web layer by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from sluicegate.testing.limits_in_test import LimitsInTest, limits_of_apps

_OPTION = "sluicegate_enabled"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addini(
        _OPTION,
        "Whether apps limit requests in tests that do not use the fixture sluicegate; true by default.",
        type="bool",
        default=True,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Switch limits off until the end, if the option says so."""
    try:
        is_on = config.getini(_OPTION)
    except (TypeError, ValueError, pytest.UsageError) as error:  # as the version of pytest has it
        raise pytest.UsageError(f"{_OPTION} must be true or false: {error}") from error
    apps = None if is_on else limits_of_apps()
    if apps is not None:
        config.add_cleanup(partial(apps.switch, apps.are_on))
        apps.switch(False)


@pytest.fixture(name="sluicegate")
def limits_in_test() -> Iterator[LimitsInTest]:
    """Give the app's rate limits for one test: on a clock to move, with outages on demand, and an off switch."""
    with LimitsInTest() as limits:
        yield limits
