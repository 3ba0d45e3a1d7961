"""What is known only once the response is: `charge_when`, `actual`, reservations, and permits that are given back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asking import Serve, at_once, remaining, statuses, violated
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse, StreamingResponse

from sluicegate import Concurrency, InvalidCost, ReservationError, SlidingWindow
from sluicegate.web.fastapi import RateLimits, Reservation, client_address


def app_with(limits: RateLimits) -> FastAPI:
    app = FastAPI(lifespan=limits.lifespan)

    @app.get("/login")
    @limits.limit("3/minute", charge_when=lambda response: response.status_code == 401)
    async def login(fails: bool = False) -> str:
        await asyncio.sleep(0)
        if fails:
            raise HTTPException(401)
        return "welcome"

    return app


GOOD, BAD = "/login", "/login?fails=true"


# charge_when


def test_only_what_is_to_be_charged_is_and_the_rest_is_given_back_before_the_last_byte(serve: Serve):
    client = serve(app_with(RateLimits()))
    assert statuses(client, *[GOOD] * 5) == [200] * 5
    assert statuses(client, BAD, GOOD, BAD, GOOD, BAD, BAD, GOOD) == [401, 200, 401, 200, 401, 429, 429]


def test_parallel_failures_never_slip_through(serve: Serve):
    client = serve(app_with(RateLimits()))
    assert sorted(at_once(lambda: client.get(BAD).status_code, 20)) == [401] * 3 + [429] * 17


def test_charge_when_sees_the_final_response_after_the_exception_handlers(serve: Serve):
    seen: list[tuple[int, str]] = []

    def charge_when(response: Any) -> bool:
        seen.append((response.status_code, response.headers.get("x-own", "")))
        return response.headers.get("x-own") == "charge"

    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)

    @app.exception_handler(KeyError)
    async def own(_: Any, error: KeyError) -> JSONResponse:
        return JSONResponse({}, 409, {"X-Own": error.args[0]})

    @app.get("/x")
    @limits.limit("1/minute", charge_when=charge_when)
    def x(word: str) -> None:
        raise KeyError(word)

    client = serve(app)
    assert statuses(client, "/x?word=free", "/x?word=charge", "/x?word=free") == [409, 409, 429]
    assert seen == [(409, "free"), (409, "charge")]


def test_a_validation_error_and_a_bug_are_judged_by_their_status_too(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)

    @app.get("/x")
    @limits.limit("2/minute", charge_when=lambda response: response.status_code >= 500)
    def x(number: int) -> float:
        return 1 / number

    client = serve(app, raise_server_exceptions=False)
    assert statuses(client, "/x?number=one", "/x?number=0", "/x?number=1", "/x?number=0", "/x?number=1") == [
        *(422, 500, 200, 500, 429)
    ]


@pytest.mark.parametrize("how", ["charge_when", "actual", "nonsense"])
def test_a_function_of_the_response_that_fails_is_logged_and_the_charge_stands(
    serve: Serve, caplog: pytest.LogCaptureFixture, how: str
):
    def fails(_: Any) -> Any:
        raise RuntimeError("a bug of the app")

    limits = RateLimits()
    options = {"actual": lambda _: "many"} if how == "nonsense" else {how: fails}
    app = FastAPI(lifespan=limits.lifespan)
    app.get("/x", dependencies=[Depends(limits.limit("2/minute", **options))])(lambda: "ok")
    assert statuses(serve(app), "/x", "/x", "/x") == [200, 200, 429]
    assert "so the charge stands" in caplog.text


# actual


def test_the_response_says_what_it_took(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    used = limits.limit("10/minute", cost=2, actual=lambda response: int(response.headers["x-used"]))

    @app.get("/x", dependencies=[Depends(used)])
    def x(units: int) -> JSONResponse:
        return JSONResponse({}, headers={"X-Used": str(units)})

    client = serve(app)
    assert [remaining(client.get(f"/x?units={units}")) for units in (5, 0, 2)] == [{"get-x": n} for n in (8, 3, 3)]
    assert remaining(client.get("/x?units=9")) == {"get-x": 1}
    assert statuses(client, "/x?units=0") == [429]


# Reservations


def reserving(kind: str) -> tuple[FastAPI, list[Any]]:
    limits, kept = RateLimits(), []
    app = FastAPI(lifespan=limits.lifespan)
    estimate = limits.reserve("10/minute", cost=4)

    def settle(used: int, reservation: Reservation) -> int:
        kept.append(reservation)
        if used >= 0:
            reservation.settle(used)
        return reservation.decision.remaining

    if kind == "sync":

        @app.get("/x")
        def x(used: int, reservation: Reservation = Depends(estimate)) -> int:
            return settle(used, reservation)

    else:

        @app.get("/x")
        async def x_async(used: int, reservation: Reservation = Depends(estimate)) -> int:
            return settle(used, reservation)

    return app, kept


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_endpoint_settles_what_it_used_and_without_that_the_estimate_stands(serve: Serve, kind: str):
    app, kept = reserving(kind)
    client = serve(app)
    assert [client.get(f"/x?used={used}").json() for used in (1, 0, -1, 4)] == [6, 5, 5, 1]
    denied = client.get("/x?used=0")
    assert (denied.status_code, violated(denied)) == (429, ["get-x"])
    with pytest.raises(ReservationError, match="the response has ended"):
        kept[0].settle(1)


def test_what_is_settled_wrongly_raises_in_the_endpoint(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)

    @app.get("/x")
    def x(reservation: Reservation = Depends(limits.reserve("10/minute"))) -> list[str]:
        raised = []
        for wrong in (-1, 1.5, True, "1", {"other": 1}, {"get-x": -1}):
            with pytest.raises(InvalidCost) as error:
                reservation.settle(wrong)
            raised.append(str(error.value))
        reservation.cancel()
        return raised

    client = serve(app)
    assert len(client.get("/x").json()) == 6
    assert remaining(client.get("/x")) == {"get-x": 9}


def test_a_stream_settles_at_its_end_and_the_next_request_finds_it_settled(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)

    @app.get("/x")
    async def x(
        used: int, reservation: Reservation = Depends(limits.reserve("10/minute", cost=6))
    ) -> StreamingResponse:
        async def tokens() -> AsyncIterator[str]:
            for number in range(used):
                yield "token "
                reservation.settle(number + 1)

        return StreamingResponse(tokens())

    client = serve(app)
    found = [client.get(f"/x?used={used}") for used in (3, 2, 1)]
    assert [(response.text, response.status_code) for response in found[:2]] == [
        ("token " * 3, 200),
        ("token " * 2, 200),
    ]
    assert [remaining(response) for response in found] == [{"get-x": 4}, {"get-x": 1}, {"get-x": 5}]
    assert found[2].status_code == 429


def test_two_reservations_of_one_request_are_settled_each_by_itself(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    tokens = limits.reserve("100/minute", cost=50, name="tokens")
    images = limits.reserve("10/minute", cost=5, name="images")

    @app.get("/x")
    def x(of_tokens: Reservation = Depends(tokens), of_images: Reservation = Depends(images)) -> None:
        of_tokens.settle(10)
        of_images.settle(1)

    client = serve(app)
    assert remaining(client.get("/x")) == {"images": 5, "tokens": 50}
    assert remaining(client.get("/x")) == {"images": 4, "tokens": 40}


# Permits


def test_permits_are_held_while_a_request_runs_and_given_back_at_its_end(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    entered, leave = threading.Semaphore(0), threading.Event()

    @app.get("/x")
    @limits.limit(Concurrency(2), per=client_address)
    def x() -> str:
        entered.release()
        leave.wait(30)
        return "ok"

    client, found = serve(app), []
    running = [threading.Thread(target=lambda: found.append(client.get("/x").status_code)) for _ in range(2)]
    for thread in running:
        thread.start()
    for _ in running:
        entered.acquire(timeout=30)
    denied = client.get("/x")
    assert (denied.status_code, violated(denied)) == (429, ["get-x"])
    assert denied.headers["ratelimit-policy"] == '"get-x";q=2;qu="concurrent-requests"'
    leave.set()
    for thread in running:
        thread.join()
    assert (found, statuses(client, "/x", "/x", "/x")) == ([200, 200], [200] * 3)


def test_permits_come_back_after_a_bug_too(serve: Serve):
    limits = RateLimits()
    app = FastAPI(lifespan=limits.lifespan)
    both = [Concurrency(1), SlidingWindow(9, window=60)]
    app.get("/x", dependencies=[Depends(limits.limit(*both))])(lambda: 1 / 0)
    assert statuses(serve(app, raise_server_exceptions=False), "/x", "/x") == [500, 500]
