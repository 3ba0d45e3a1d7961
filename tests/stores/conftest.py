from __future__ import annotations

from collections.abc import Iterator

import pytest

import servers
from stores.harness import Harness

_FORMS = [(kind, form) for kind in ["memory", *(servers.kinds() or ["none"])] for form in ("sync", "async")]


@pytest.fixture(params=_FORMS, ids="-".join)
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """Every store in both forms: in memory, and on each real server."""
    kind, form = request.param
    if kind == "none":
        pytest.skip(servers.HOW_TO_GET_ONE)
    if kind == "memory":
        yield from _used(Harness("memory", asynchronous=form == "async"))
        return
    server = servers.shared(kind)
    with servers.own_prefix(server) as prefix:
        yield from _used(Harness("redis", asynchronous=form == "async", client=server.client, prefix=prefix))


def _used(harness: Harness) -> Iterator[Harness]:
    yield harness
    harness.close()
