"""Limits in words: what each policy allows, what each key is called, and how a key is written in Python."""

from __future__ import annotations

import pytest

from sluicegate import CalendarWindow, Concurrency, FixedWindow, Policy, SlidingWindow, TokenBucket
from sluicegate.web.identity import ClientAddress, Cookie, Header, ScopeKey, User, client_address, user
from sluicegate.web.words import function_name, key_in_words, policy_in_words


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (SlidingWindow(100, window=60), "100 in any minute"),
        (SlidingWindow(5, window=1), "5 in any second"),
        (SlidingWindow(5, window=0.25), "5 in any 0.25 s"),
        (SlidingWindow(5, window=90), "5 in any 90 s"),
        (SlidingWindow(5, window=604_800), "5 in any week"),
        (FixedWindow(9, window=3600), "9 in each hour"),
        (TokenBucket(20, window=1), "20 per second"),
        (TokenBucket(20, window=1, burst=50), "20 per second, 50 at once"),
        (CalendarWindow(7, every="month", timezone="Europe/Paris"), "7 per calendar month in Europe/Paris"),
        (CalendarWindow(7, every="month", day=15), "7 per calendar month-day15 in UTC"),
        (Concurrency(3), "3 at once"),
    ],
)
def test_a_policy_in_words_says_how_much_in_which_span(policy: Policy, words: str):
    assert policy_in_words(policy) == words


@pytest.mark.parametrize(
    ("key", "words", "written"),
    [
        (client_address, "client_address", "ClientAddress()"),
        (ClientAddress(hops=2), "client_address(hops=2)", "ClientAddress(hops=2)"),
        (
            ClientAddress(trusted=["10.0.0.0/8"], header="Forwarded", ipv6_prefix=56),
            "client_address(trusted=['10.0.0.0/8'], header='Forwarded', ipv6_prefix=56)",
            "ClientAddress(trusted=['10.0.0.0/8'], header='Forwarded', ipv6_prefix=56)",
        ),
        (Header("X-API-Key"), "header X-API-Key", "Header('X-API-Key')"),
        (
            Header("X-API-Key", missing=client_address),
            "header X-API-Key, else client_address",
            "Header('X-API-Key', missing=ClientAddress())",
        ),
        (Cookie("session"), "cookie session", "Cookie('session')"),
        (User(), "user", "User()"),
        (user, "user, else client_address", "User(missing=ClientAddress())"),
    ],
)
def test_a_key_of_the_request_is_named_for_people_and_its_repr_makes_it_again(key: ScopeKey, words: str, written: str):
    assert (key_in_words(key), repr(key)) == (words, written)
    assert repr(eval(written)) == written


class Tenant(ScopeKey):
    async def of_request(self): ...

    def __call__(self): ...


async def current_user(): ...


def test_any_other_key_has_the_name_that_its_own_module_gives_it():
    async def local(): ...

    assert key_in_words(Tenant()) == "Tenant"
    assert key_in_words(current_user) == "current_user"
    assert key_in_words(local) == "local"
    assert key_in_words(Tenant().of_request) == "Tenant.of_request"
    assert function_name(Tenant()) == "Tenant"
    assert key_in_words(None) == "all together"
    assert key_in_words({"user": current_user, "ip": client_address}) == "user: current_user, ip: client_address"
