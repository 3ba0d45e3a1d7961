"""``sluicegate bans``: what it lists of an app whose limits have banned keys, and how it frees one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

import servers

APP = """
import os
from fastapi import Depends, FastAPI
from sluicegate import AsyncRedisStore, MemoryStore, SlidingWindow
from sluicegate.web.fastapi import RateLimits, header

url, prefix = os.environ.get("URL"), os.environ.get("PREFIX", "x:")
limits = RateLimits(store=AsyncRedisStore.from_url(url, prefix=prefix) if url else MemoryStore(), deadline=30)
app = FastAPI(lifespan=limits.lifespan)
user = header("x-user")
pair = {"user": user, "tenant": header("x-tenant")}

@app.get("/x", dependencies=[Depends(limits.limit("1/minute", per=user, ban=("1/hour", 600)))])
def x(): ...

@app.get("/y", dependencies=[Depends(limits.limit(
    SlidingWindow(1, window=60, per=("tenant", "user")), per=pair, ban=("1/hour", 86400 * 3)
))])
def y(): ...
"""

Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.slow, pytest.mark.mostly_waits]  # a process for each


@pytest.fixture
def bans(server: servers.Server, prefix: str, tmp_path: Path) -> Run:
    """Run the command in a folder with an app on the shared server."""
    Path(tmp_path, "shop.py").write_text(APP)

    def run(*arguments: str, url: str = server.url) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sluicegate", "bans", "shop:app", *arguments],
            cwd=tmp_path,
            env={**os.environ, "URL": url, "PREFIX": prefix},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def banned(server: servers.Server, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the app ban alice and a user of a tenant's."""
    monkeypatch.setenv("URL", server.url)
    monkeypatch.setenv("PREFIX", prefix)
    module: dict[str, Any] = {}
    exec(compile(APP, "shop.py", "exec"), module)
    app, limits = module["app"], module["limits"]

    async def run() -> None:
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://a") as client,
        ):
            for path, user in (("/x", "alice"), ("/y", "bob")):
                for _ in range(3):
                    await client.get(path, headers={"x-user": user, "x-tenant": "acme"})
            async with asyncio.timeout(60):
                while len(await limits.bans()) < 2:
                    await asyncio.sleep(0.01)
        await module["limits"]._engine.limiters.store.aclose()

    asyncio.run(run())


def test_no_bans(bans: Run):
    done = bans()
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 keys banned\n", "")


@pytest.mark.usefixtures("banned")
def test_bans_in_a_table_and_as_json(bans: Run):
    done = bans()
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows, empty, count = done.stdout.splitlines()
    assert head.split() == ["KEY", "LIMIT", "STILL"]
    assert [row.split("  ")[0] for row in rows] == ["alice", '{"tenant": "acme", "user": "bob"}']
    assert rows[0].split()[1:2] == ["get-x"]
    assert rows[0].split()[2].startswith(("0:09:", "0:10:00"))
    assert "2 days, 23:59:" in rows[1] or "3 days" in rows[1]
    assert (empty, count) == ("", "2 keys banned")
    data = json.loads(bans("--json", "--limit", "get-y").stdout)
    assert [(each["key"], each["limit"]) for each in data] == [({"tenant": "acme", "user": "bob"}, "get-y")]
    assert 86400 * 3 - 60 < data[0]["seconds"] <= 86400 * 3


@pytest.mark.usefixtures("banned")
def test_a_key_is_freed(bans: Run):
    done = bans("--lift", "alice")
    assert (done.returncode, done.stdout, done.stderr) == (0, "alice is free again\n", "")
    done = bans("--lift", '{"user": "bob", "tenant": "acme"}', "--limit", "get-y")
    assert done.stdout == '{"user": "bob", "tenant": "acme"} is free again under get-y\n'
    assert bans().stdout == "0 keys banned\n"


@pytest.mark.usefixtures("banned")
def test_what_cannot_be_freed_or_listed(bans: Run, server: servers.Server):
    done = bans("--lift", "alice", "--limit", "get-z")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "sluicegate: no limit is named 'get-z'\n")
    done = bans("--lift", "alice", "--limit", "get-y")
    assert "limit get-y counts by a mapping with tenant and user, got text" in done.stderr
    done = bans(url="")
    assert "the limits of shop:app count in the memory of each process" in done.stderr
    with servers.running(server.kind) as own:
        url = own.url
    done = bans(url=url)
    assert done.returncode == 2
    assert "nothing was listed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb is free again\n"),
        ("ü", "ü is free again\n"),
        ("{no json", "{no json is free again\n"),
    ],
)
def test_a_key_is_shown_without_what_acts_on_a_terminal(bans: Run, key: str, shown: str):
    assert bans("--lift", key).stdout == shown
