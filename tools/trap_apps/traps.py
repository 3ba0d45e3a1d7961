"""The traps: what each asks of a limit, and how an app is driven to see whether it does so."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from driving import Answer, DidNotStart, Running, running
from fastapi import APIRouter, BackgroundTasks, Body, FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from kit import LIMIT, Kit, Library, NoWay, user_of
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, StreamingResponse

CALLS = LIMIT + 3
FROZEN = 5.0
"""Seconds that Redis is frozen. An app that waits for it stands still for most of it; a busy machine does not."""

OTHER = "192.0.2.2"

STILL = 1.5
"""Seconds: a loop that stood still for longer was blocked."""


@dataclass(frozen=True)
class Finding:
    """Whether one kit does what the trap asks, and the evidence."""

    is_right: bool
    says: str


@dataclass(frozen=True)
class Server:
    """The server to count on, and the process to freeze."""

    url: str
    pid: int


@dataclass(frozen=True)
class Trial:
    """One kit in one trap."""

    kit: type[Kit]
    adapter: Library
    server: Server | None

    def made(self) -> Kit:
        return self.kit(self.server.url if self.server and self.kit.on_redis else None)


Try = Callable[[Trial], Coroutine[Any, Any, Finding]]


@dataclass(frozen=True)
class Trap:
    """One trap.

    Attributes:
        id: Its name in the data.
        title: The line in the table.
        asks: What is expected.
        kits: Which kits can be caught: those on a route, those that cover the app, or both.
        needs: What it needs besides: a server to count on, or one to freeze.
        is_slow: Whether it starts processes or waits, so that the first kit that is right is enough.
    """

    id: str
    title: str
    asks: str
    tried: Try
    kits: Literal["route", "cover", "any"] = "route"
    needs: Literal["", "redis", "frozen"] = ""
    is_slow: bool = False

    @property
    def on_server(self) -> bool:
        """Whether it counts on a server."""
        return self.needs in {"redis", "frozen"}

    def fits(self, kit: type[Kit]) -> bool:
        if kit.only:
            return self.id in kit.only
        if self.needs == "frozen" and not kit.on_redis:
            return False
        return self.kits == "any" or kit.covers == (self.kits == "cover")


# What the routes do


async def ok(request: Request, response: Response) -> str:  # noqa: ARG001 - slowapi requires both
    return "ok"


async def by_id(request: Request, response: Response, id: int) -> int:  # noqa: A002, ARG001
    return id


async def with_body(request: Request, response: Response, name: str = Body(embed=True)) -> str:  # noqa: ARG001
    return name


async def read(request: Request, response: Response) -> int:  # noqa: ARG001
    return len(await request.body())


async def own(request: Request) -> JSONResponse:  # noqa: ARG001
    return JSONResponse("ok")


async def missing(request: Request, response: Response) -> None:  # noqa: ARG001
    raise HTTPException(404)


async def denied() -> None:
    raise HTTPException(401)


# How they are counted


def limited(answers: Sequence[Answer], status: int = 200, limit: int = LIMIT) -> Finding:
    """Judge answers of which as many as the limit are to be allowed, which gives this status, and the rest denied."""
    statuses = [answer.status for answer in answers]
    allowed = statuses.count(status)
    others = Counter(each for each in statuses if each not in {status, 429})
    as_well = "".join(f", {count} times {_name(each)}" for each, count in others.items())
    error = _error(answer for answer in answers if answer.status != status)
    is_right = statuses == [status] * limit + [429] * (len(answers) - limit)
    got = "allowed" if status == 200 else f"answered with {status}"
    return Finding(is_right, f"{allowed} of {len(answers)} {got} at a limit of {limit}{as_well}{error}")


def shared_by_none(finding: Finding, other: Answer) -> Finding:
    """Judge as wrong a budget that another client shares: a limiter with one for all passes whatever it counts by."""
    if other.status == 200:
        return finding
    return Finding(False, f"{finding.says}, and another client is denied, too")


def _error(answers: Iterable[Answer]) -> str:
    return next((f" ({answer.error})" for answer in answers if answer.error), "")


def _name(status: int) -> str:
    return str(status) if status else "no response"


async def called(app: Running, *paths: str, times: int = CALLS, **options: Any) -> list[Answer]:
    """Call these paths in turn, as often in all as said."""
    return [await app.get(paths[n % len(paths)], **options) for n in range(times)]


def _allowed(answers: Sequence[Answer]) -> int:
    return sum(answer.status == 200 for answer in answers)


# Who is counted


async def clients(trial: Trial) -> Finding:
    kit = trial.made()
    app = kit.app()
    kit.add(app, "/items", ok)
    async with running(app) as on:
        first = await called(on, "/items")
        second = await called(on, "/items", client="192.0.2.2")
    says = (
        f"{_allowed(first)} of {CALLS} allowed to the first, {_allowed(second)} of {CALLS} to the second{_error(first)}"
    )
    return Finding(limited(first).is_right and limited(second).is_right, says)


async def forged(trial: Trial) -> Finding:
    kit = trial.made()
    app = kit.app()
    kit.add(app, "/items", ok)
    async with running(app) as on:
        hopping = [await on.get("/items", headers={"X-Forwarded-For": f"198.51.100.{n}"}) for n in range(CALLS)]
        other = await on.get("/items", client=OTHER)
    return shared_by_none(limited(hopping), other)


async def ipv6(trial: Trial) -> Finding:
    kit = trial.made()
    app = kit.app()
    kit.add(app, "/items", ok)
    async with running(app) as on:
        hopping = [await on.get("/items", client=f"2001:db8:0:1::{n:x}") for n in range(1, CALLS + 1)]
        other = await on.get("/items", client="2001:db8:0:2::1")
    return shared_by_none(limited(hopping), other)


async def failed_login(trial: Trial) -> Finding:
    kit = trial.made()
    app = kit.app()
    kit.by_user(app, "/mine", user_of, 100)
    async with running(app) as on:
        return limited(await called(on, "/mine"), 401)


async def override(trial: Trial) -> Finding:
    if trial.adapter.no_key_dependency:
        raise NoWay(trial.adapter.no_key_dependency)
    kit = trial.made()
    app = kit.app()
    kit.by_user(app, "/mine", user_of, LIMIT)
    app.dependency_overrides[user_of] = lambda: "alice"
    async with running(app) as on:
        # From another address each, so that only the key can have limited them.
        answers = [await on.get("/mine", client=f"192.0.2.{n}") for n in range(1, CALLS + 1)]
    return limited(answers)


# Where a limit is


async def included(trial: Trial) -> Finding:
    kit = trial.made()
    app, router = kit.app(), APIRouter()
    kit.add(router, "/items", ok)
    app.include_router(router, prefix="/v1")
    async with running(app) as on:
        return limited(await called(on, "/v1/items"))


async def nested(trial: Trial) -> Finding:
    kit = trial.made()
    app, outer, inner = kit.app(), APIRouter(prefix="/outer"), APIRouter(prefix="/inner")
    kit.add(inner, "/items", ok)
    outer.include_router(inner)
    app.include_router(outer)
    async with running(app) as on:
        return limited(await called(on, "/outer/inner/items"))


async def mounted(trial: Trial) -> Finding:
    kit = trial.made()
    app, sub = kit.app(), FastAPI()
    sub.get("/items")(ok)
    app.mount("/sub", sub)
    async with running(app) as on:
        return limited(await called(on, "/sub/items"))


async def unmatched(trial: Trial) -> Finding:
    kit = trial.made()
    async with running(kit.app()) as on:
        return limited(await called(on, "/nope"), 404)


async def path_parameter(trial: Trial) -> Finding:
    kit = trial.made()
    app = kit.app()
    kit.add(app, "/items/{id}", by_id)
    async with running(app) as on:
        answers = await called(on, *(f"/items/{n}" for n in range(CALLS)))
        other = await on.get("/items/0", client=OTHER)
    return shared_by_none(limited(answers), other)


async def two_prefixes(trial: Trial) -> Finding:
    kit = trial.made()
    app, router = kit.app(), APIRouter()
    kit.add(router, "/items/{id}", by_id)
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")
    async with running(app) as on:
        first = await called(on, *(f"/v1/items/{n}" for n in range(CALLS)))
        second = await called(on, *(f"/v2/items/{n}" for n in range(CALLS)))
    says = f"{_allowed(first)} of {CALLS} allowed under /v1, {_allowed(second)} of {CALLS} under /v2{_error(first)}"
    return Finding(limited(first).is_right and limited(second).is_right, says)


async def root_path(trial: Trial) -> Finding:
    kit = trial.made()
    app = kit.app(root_path="/api")
    kit.add(app, "/items", ok)
    async with running(app) as on:
        answers = await called(on, "/items", "/api/items", times=2 * CALLS)
        other = await on.get("/items", client=OTHER)
    return shared_by_none(limited(answers), other)


async def sync_route(trial: Trial) -> Finding:
    threads = set()

    def blocking(request: Request, response: Response) -> str:  # noqa: ARG001
        threads.add(threading.get_ident())
        return "ok"

    kit = trial.made()
    app = kit.app()
    kit.add(app, "/items", blocking)
    async with running(app) as on:
        finding = limited(await called(on, "/items"))
    if threading.get_ident() in threads:
        return Finding(False, f"{finding.says}, on the event loop")
    return finding


async def decorator_above(trial: Trial) -> Finding:
    kit = trial.made()
    app = kit.app()
    kept = kit.above(app, "/items", ok)  # as a module keeps its functions
    try:
        async with running(app) as on:
            finding = limited(await called(on, "/items"))
    except DidNotStart as refused:
        line = str(refused).strip().splitlines()[-1]
        return Finding("/items" in line or "ok" in line, "the app does not start, and the error names the route")
    return Finding(kept is not None and finding.is_right, f"the app starts; {finding.says}")


# What comes before a limit


async def malformed(trial: Trial) -> Finding:
    kit = trial.made()
    app = kit.app()
    kit.add(app, "/items", with_body, "POST")
    json = {"content-type": "application/json"}
    async with running(app) as on:
        return limited(await called(on, "/items", method="POST", headers=json, body=b"{"), 422)


async def authentication(trial: Trial) -> Finding:
    kit = trial.made()
    app = kit.app()
    app.include_router(kit.guarded(denied, "/items", ok))
    async with running(app) as on:
        return limited(await called(on, "/items"), 401)


async def preflight(trial: Trial) -> Finding:
    kit = trial.made()
    # The limit's middleware is added later, and so comes before this one.
    app = kit.app(middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"])])
    kit.add(app, "/items", ok)
    asked = {"Origin": "https://example.com", "Access-Control-Request-Method": "GET"}
    async with running(app) as on:
        before = await called(on, "/items", method="OPTIONS", headers=asked)
        finding = limited(await called(on, "/items"))
    count = _allowed(before)
    return Finding(count == CALLS and finding.is_right, f"{count} of {CALLS} preflights answered; then {finding.says}")


async def second_limit(trial: Trial) -> Finding:
    kit = trial.made()
    app = kit.app()
    kit.two_limits(app, "/items", ok)
    alice, bob = {"X-User": "alice"}, {"X-User": "bob"}
    async with running(app) as on:
        await called(on, "/items", times=LIMIT, client="192.0.2.1", headers=alice)
        by_address = await called(on, "/items", client="192.0.2.1", headers=bob)
        by_user = await called(on, "/items", client="192.0.2.2", headers=alice)
        # What was denied cost bob nothing, nor this address.
        allowed = _allowed(await called(on, "/items", times=LIMIT, client="192.0.2.2", headers=bob))
    were_denied = all(answer.status == 429 for answer in (*by_address, *by_user))
    if not were_denied:
        return Finding(
            False, f"{_allowed([*by_address, *by_user])} of {2 * CALLS} allowed that a limit of {LIMIT} denies"
        )
    says = f"after requests that the other limit denied, {allowed} of {LIMIT} allowed to one that had used nothing"
    return Finding(allowed == LIMIT, says)


# WebSockets


async def handshake(trial: Trial) -> Finding:
    kit = trial.made()
    app = kit.app()
    kit.handshakes(app, "/ws")
    ways = []
    async with running(app) as on:
        for _ in range(CALLS):
            async with on.socket("/ws") as connection:
                ways.append(await connection.opened())
    opened = ways.count("open")
    refused = sorted({way for way in ways if way != "open"})
    says = f"{opened} of {CALLS} opened at a limit of {LIMIT}; the others: {', '.join(refused) or 'none'}"
    return Finding(ways == ["open"] * LIMIT + ["429"] * (CALLS - LIMIT), says)


async def messages(trial: Trial) -> Finding:
    return await _heard(trial, CALLS)


async def reconnecting(trial: Trial) -> Finding:
    return await _heard(trial, LIMIT - 1, CALLS - LIMIT + 1)


async def _heard(trial: Trial, *times: int) -> Finding:
    """Send as many messages on one connection after the other."""
    kit = trial.made()
    app = kit.app()
    kit.messages(app, "/ws")
    heard: list[str] = []
    async with running(app) as on:
        for sent in times:
            async with on.socket("/ws") as connection:
                await connection.opened()
                for _ in range(sent):
                    heard.append(await connection.asked("hello"))
                    if heard[-1].startswith("closed"):
                        break
    denied = next((f"then {each}" for each in heard if each != "ok"), "nothing was denied")
    allowed = heard.count("ok")
    return Finding(allowed == LIMIT, f"{allowed} of {sum(times)} answered at a limit of {LIMIT}; {denied}")


# What a limit must not disturb


async def streaming(trial: Trial) -> Finding:
    first_arrived = asyncio.Event()
    in_time: list[bool] = []

    async def chunks() -> Any:
        yield b"first"
        try:
            await asyncio.wait_for(first_arrived.wait(), 10)
        except TimeoutError:
            in_time.append(False)
        else:
            in_time.append(True)
        yield b"second"

    async def stream(request: Request) -> StreamingResponse:  # noqa: ARG001
        return StreamingResponse(chunks())

    kit = trial.made()
    app = kit.app()
    kit.add(app, "/stream", stream)
    async with running(app) as on:
        answer = await on.get("/stream", on_message=lambda each: first_arrived.set() if each.get("body") else None)
    if answer.starts != 1:
        return Finding(False, f"the response was started {answer.starts} times, which servers refuse")
    is_right = in_time == [True] and answer.body == b"firstsecond"
    return Finding(is_right, "each part arrives as it is made" if is_right else f"held back: {answer.body!r}")


async def background(trial: Trial) -> Finding:
    response_over = asyncio.Event()
    seen: list[bool] = []

    async def task() -> None:
        try:
            await asyncio.wait_for(response_over.wait(), 10)
        except TimeoutError:
            seen.append(False)
        else:
            seen.append(True)

    async def later(request: Request, response: Response, tasks: BackgroundTasks) -> str:  # noqa: ARG001
        tasks.add_task(task)
        return "ok"

    def watch(each: dict[str, Any]) -> None:
        if each["type"] == "http.response.body" and not each.get("more_body"):
            response_over.set()

    kit = trial.made()
    app = kit.app()
    kit.add(app, "/later", later)
    async with running(app) as on:
        await on.get("/later", on_message=watch)
    says = {(): "the task did not run", (True,): "the response ends before the task does"}
    return Finding(seen == [True], says.get(tuple(seen), "the response ends only after the task"))


async def own_response(trial: Trial) -> Finding:
    return await _has_fields(trial, own, 200)


async def exception(trial: Trial) -> Finding:
    return await _has_fields(trial, missing, 404)


async def _has_fields(trial: Trial, endpoint: Callable[..., Any], status: int) -> Finding:
    if trial.adapter.no_fields:
        raise NoWay(trial.adapter.no_fields)
    kit = trial.made()
    app = kit.app()
    kit.add(app, "/items", endpoint)
    async with running(app) as on:
        answer = await on.get("/items")
    shown = "with its fields" if answer.has_fields else "without fields"
    return Finding(answer.status == status and answer.has_fields, f"a {answer.status} {shown}{_error([answer])}")


# Redis


async def at_once(trial: Trial) -> Finding:
    kit = trial.made()
    app = kit.app()
    kit.add(app, "/items", ok)
    async with running(app) as on:
        answers = await asyncio.gather(*(on.get("/items") for _ in range(50)))
    return limited(sorted(answers, key=lambda answer: answer.status))


@dataclass
class Frozen:
    """What was seen while Redis was frozen: of the loop, and of the limited request."""

    silence: float
    answer: Answer
    was_in_time: bool


async def _frozen(trial: Trial) -> Frozen:
    kit, server = trial.made(), trial.server
    if server is None:
        raise ValueError("a trap that freezes Redis needs one")
    app = kit.app()
    kit.add(app, "/items", ok)
    async with running(app) as on:
        await on.get("/items")
        thawed = threading.Event()

        def thaw() -> None:
            thawed.set()
            os.kill(server.pid, signal.SIGCONT)

        timer = threading.Timer(FROZEN, thaw)  # a thread's: the loop may stand still
        os.kill(server.pid, signal.SIGSTOP)
        timer.start()
        try:
            answer = Answer()
            request = asyncio.create_task(on.send(answer, "/items"))
            silence, was_in_time, last = 0.0, False, time.monotonic()
            while not thawed.is_set():
                await asyncio.sleep(0.02)
                now = time.monotonic()
                silence, last = max(silence, now - last), now
                was_in_time |= request.done() and not thawed.is_set()
            async with asyncio.timeout(60):
                await request
        finally:
            timer.join()
    return Frozen(silence, answer, was_in_time)


async def frozen_loop(trial: Trial) -> Finding:
    silence = (await _frozen(trial)).silence
    if silence >= STILL:  # once more: the machine may have stood still, and not the loop
        silence = min(silence, (await _frozen(trial)).silence)
    is_right = silence < STILL
    went = "went on" if is_right else f"stood still for {silence:.1f} s"
    return Finding(is_right, f"Redis was frozen for {FROZEN:g} s; the event loop {went}")


async def frozen_answer(trial: Trial) -> Finding:
    seen = await _frozen(trial)
    status = _name(seen.answer.status)
    if not seen.was_in_time:
        return Finding(False, f"no response while Redis was frozen, {FROZEN:g} s")
    is_right = seen.answer.status in {200, 429, 503}
    return Finding(is_right, f"a {status} while Redis was frozen{_error([seen.answer])}")


# A real server


async def keep_alive(trial: Trial) -> Finding:
    with _served(trial, "POST", 1) as port:
        one = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENT)
        one.connect()
        one.auto_open = False
        body, statuses = b"x" * 300_000, []
        try:
            for _ in range(CALLS):
                one.request("POST", "/items", body)
                statuses.append(_status(one))
            one.request("GET", "/pid")
            after = str(_status(one))
        except (OSError, http.client.HTTPException) as error:
            after = f"{type(error).__name__} on the same connection"
    finding = limited([Answer(status) for status in statuses])
    return Finding(
        finding.is_right and after == "200", f"{finding.says}; after the denials, another route gave {after}"
    )


async def two_workers(trial: Trial) -> Finding:
    with _served(trial, "GET", 2) as port:
        workers = _one_each(port)
        statuses = [_get(worker, "/items") for _ in range(CALLS) for worker in workers.values()]
    return limited([Answer(status) for status in statuses])


PATIENT = 60.0


def _status(connection: http.client.HTTPConnection) -> int:
    response = connection.getresponse()
    response.read()
    return response.status


def _get(connection: http.client.HTTPConnection, path: str) -> int:
    connection.request("GET", path)
    return _status(connection)


def _one_each(port: int) -> dict[bytes, http.client.HTTPConnection]:
    """Return a kept connection to each of two workers, which the system hands out at random."""
    workers: dict[bytes, http.client.HTTPConnection] = {}
    end_at = time.monotonic() + PATIENT
    while len(workers) < 2 and time.monotonic() < end_at:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENT)
        connection.request("GET", "/pid")
        workers.setdefault(connection.getresponse().read(), connection)
    if len(workers) < 2:
        raise RuntimeError("one of two workers never answered")
    return workers


@contextmanager
def _served(trial: Trial, method: str, workers: int) -> Iterator[int]:
    """Serve the app by uvicorn in processes of its own; gives the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    url = trial.server.url if trial.server and trial.kit.on_redis else ""
    environment = {**os.environ, "TRAP": f"{trial.adapter.name} {trial.kit.__name__} {method} {url}"}
    command = [sys.executable, "-m", "uvicorn", "--factory", "--log-level", "warning", "--port", str(port)]
    command += ["--workers", str(workers), "--app-dir", str(Path(__file__).parent), "try_traps:served"]
    process = subprocess.Popen(command, env=environment)
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end_at = time.monotonic() + PATIENT
    while process.poll() is None and time.monotonic() < end_at:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENT)
            if _get(connection, "/pid") == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("uvicorn did not start")


def served_app(kit: Kit, method: str) -> FastAPI:
    """Make the app that a real server serves."""
    app = kit.app()
    kit.add(app, "/items", read, method)

    @app.get("/pid")
    async def pid() -> int:
        return os.getpid()

    return app


TRAPS = (
    Trap("clients", "Two clients", "each has a budget of its own", clients),
    Trap(
        "included-router", "Limit on the app: included router", "it holds for the routes of a router", included, "cover"
    ),
    Trap(
        "nested-router",
        "Limit on the app: nested router",
        "it holds for those of a router in a router",
        nested,
        "cover",
    ),
    Trap("mount", "Limit on the app: mount", "it holds for those of a mounted app", mounted, "cover"),
    Trap("unmatched", "Limit on the app: 404", "it holds for paths that no route has", unmatched, "cover"),
    Trap("path-parameter", "Path parameter", "`/items/1` and `/items/2` share a budget", path_parameter),
    Trap(
        "two-prefixes",
        "One router under two prefixes",
        "`/v1/items/1` and `/v1/items/2` share a budget, `/v2/items/1` has another",
        two_prefixes,
    ),
    Trap("root-path", "`root_path`", "`/items` and `/api/items` are one route, with one budget", root_path),
    Trap("sync-route", "Sync route", "it is limited, and runs in a thread", sync_route),
    Trap(
        "decorator-above",
        "Decorator above the route's",
        "the app does not start, as nothing would be limited",
        decorator_above,
    ),
    Trap("handshake", "WebSocket handshake", "a denied one gets a 429", handshake),
    Trap("messages", "WebSocket messages", "those over the limit are not processed", messages),
    Trap("reconnecting", "WebSocket messages, new connection", "it brings no new budget", reconnecting),
    Trap("malformed", "Malformed JSON", "requests that end in a 422 are counted", malformed, "any"),
    Trap(
        "authentication",
        "Authentication on an included router",
        "requests that end in its 401 are counted",
        authentication,
        "any",
    ),
    Trap(
        "failed-login",
        "Failed authentication before the key",
        "where users are the key, failed log-ins are counted by address",
        failed_login,
        "cover",
    ),
    Trap("override", "Dependency override", "the user from `dependency_overrides` is the one counted", override),
    Trap("forged-header", "Forged header", "a client cannot choose its address by X-Forwarded-For", forged),
    Trap("ipv6", "IPv6 hopping", "the addresses of one /64 share a budget", ipv6),
    Trap(
        "second-limit",
        "Denied by the second limit",
        "a request that one limit denies costs nothing under the other",
        second_limit,
    ),
    Trap("preflight", "CORS preflight", "it is answered, and not counted", preflight, "cover"),
    Trap("streaming", "Streaming", "each part arrives as it is made", streaming, "any"),
    Trap("background", "Background tasks", "the response does not wait for them", background, "any"),
    Trap("own-response", "A `Response` of one's own", "it has the rate-limit fields", own_response, "any"),
    Trap("http-exception", "`HTTPException`", "its response has them, too", exception, "any"),
    Trap("at-once", "50 requests at once", "as many are allowed as the limit says", at_once, needs="redis"),
    Trap("frozen-loop", "Redis frozen: other requests", "they go on", frozen_loop, needs="frozen", is_slow=True),
    Trap(
        "frozen-answer",
        "Redis frozen: the request itself",
        "it is answered meanwhile, and not with a 500",
        frozen_answer,
        needs="frozen",
        is_slow=True,
    ),
    Trap(
        "keep-alive",
        "HTTP/1.1 keep-alive",
        "the connection lives on after denials whose bodies were not read",
        keep_alive,
        is_slow=True,
    ),
    Trap("two-workers", "Two workers", "they share a limit", two_workers, needs="redis", is_slow=True),
)
