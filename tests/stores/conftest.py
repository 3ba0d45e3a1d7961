from __future__ import annotations

from collections.abc import Iterator

import pytest

import servers
from stores.rigs import Rig

_FORMS = [(kind, form) for kind in ["memory", *(servers.kinds() or ["none"])] for form in ("sync", "async")]


@pytest.fixture(params=_FORMS, ids="-".join)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Every store in both forms: in memory, and on each real server."""
    kind, form = request.param
    if kind == "none":
        pytest.skip(servers.HOW_TO_GET_ONE)
    if kind == "memory":
        yield from _used(Rig("memory", asynchronous=form == "async"))
        return
    server = servers.shared(kind)
    with servers.own_prefix(server) as prefix:
        yield from _used(Rig("redis", asynchronous=form == "async", client=server.client, prefix=prefix))


def _used(rig: Rig) -> Iterator[Rig]:
    yield rig
    rig.close()
