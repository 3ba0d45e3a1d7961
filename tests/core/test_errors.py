"""Errors: what they carry, and what they quote."""

from __future__ import annotations

import pickle

import pytest

from sluicegate import (
    CalendarWindow,
    Limiter,
    SlidingWindow,
    SluicegateError,
)


def test_errors_come_whole_through_a_pickle():
    for attempt in (
        lambda: SlidingWindow(0, window=1),
        lambda: CalendarWindow(1, every="day", timezone="Europe/Pari"),
        lambda: Limiter("often"),
        lambda: Limiter(SlidingWindow(1, window=1, per="user")).take({"ip": "a"}),
        lambda: Limiter(SlidingWindow(1, window=1, per="user")).take("a"),
        lambda: Limiter(SlidingWindow(1, window=1)).take("a", {"other": 1}),
        lambda: Limiter(SlidingWindow(1, window=1)).block("a", -1),
        lambda: Limiter(SlidingWindow(1, window=1)).take("a", 0),
        lambda: Limiter(SlidingWindow(1, window=1)).take(b"a"),
        lambda: Limiter(SlidingWindow(1, window=1), store="nowhere"),
    ):
        with pytest.raises(SluicegateError) as caught:
            attempt()
        again = pickle.loads(pickle.dumps(caught.value))
        assert (type(again), str(again), vars(again)) == (type(caught.value), str(caught.value), vars(caught.value))
