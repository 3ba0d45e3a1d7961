"""Keys that a request alone gives: its client's address behind proxies, a header, a cookie, a user."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.authentication import BaseUser, SimpleUser, UnauthenticatedUser

from sluicegate import InvalidPolicy
from sluicegate.web.identity import (
    ClientAddress,
    Cookie,
    Header,
    InvalidIdentity,
    User,
    client_address,
    cookie,
    header,
    user,
)

PROXIES = ["10.0.0.0/8", "2001:db8:ffff::/48"]
BEHIND_PROXIES = ClientAddress(trusted=PROXIES)
BEHIND_STANDARD_PROXIES = ClientAddress(trusted=PROXIES, header="Forwarded")


def scope(peer: str | None = "10.0.0.1", **headers: bytes | list[bytes]) -> dict[str, Any]:
    """Make the scope of a request; each keyword is a header, or several lines of one."""
    lines = {name: [value] if isinstance(value, bytes) else value for name, value in headers.items()}
    return {
        "type": "http",
        "client": None if peer is None else (peer, 50_000),
        "headers": [(name.replace("_", "-").encode(), line) for name, each in lines.items() for line in each],
    }


def forwarded(*lines: bytes, peer: str | None = "10.0.0.1") -> dict[str, Any]:
    return scope(peer, forwarded=list(lines))


def x_forwarded(*lines: bytes, peer: str | None = "10.0.0.1") -> dict[str, Any]:
    return scope(peer, x_forwarded_for=list(lines))


# The peer


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:cb00:7107", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("testclient", "testclient"),
        ("/run/app.sock", "/run/app.sock"),
        ("010.0.0.1", "010.0.0.1"),
        ("/run/\udcff.sock", "/run/\\udcff.sock"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_peer_is_the_key(peer, key):
    assert client_address.of(scope(peer)) == key


@pytest.mark.parametrize("client", [None, (), [], [None, 1], [b"\0abstract", 0], 5], ids=repr)
def test_a_peer_without_an_address_is_unknown(client):
    assert client_address.of({"client": client}) == "unknown"
    assert client_address.of({}) == "unknown"


def test_no_header_is_read_by_default():
    forged = scope("203.0.113.7", x_forwarded_for=b"1.1.1.1", forwarded=b"for=1.1.1.1", x_real_ip=b"1.1.1.1")
    assert client_address.of(forged) == "203.0.113.7"
    assert BEHIND_PROXIES.of(forged) == BEHIND_STANDARD_PROXIES.of(forged) == "203.0.113.7"


def test_a_client_that_changes_its_address_within_its_network_keeps_its_key():
    assert len({client_address.of(scope(f"2001:db8:1:2::{n:x}")) for n in range(1000)}) == 1
    assert client_address.of(scope("2001:db8:1:3::")) != client_address.of(scope("2001:db8:1:2::"))


@pytest.mark.parametrize(
    ("prefix", "key"),
    [(1, "::/1"), (48, "2001:db8:1::/48"), (56, "2001:db8:1:ff00::/56"), (128, "2001:db8:1:ff02::3/128")],
)
def test_the_length_of_ipv6_networks_can_be_set(prefix, key):
    by_network = ClientAddress(ipv6_prefix=prefix)
    assert by_network.of(scope("2001:db8:1:ff02::3")) == key
    assert by_network.of(scope("203.0.113.7")) == "203.0.113.7"


# Trusted proxies


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ([b"203.0.113.7"], "203.0.113.7"),
        ([b"203.0.113.7, 10.9.9.9"], "203.0.113.7"),
        ([b"1.1.1.1, 203.0.113.7, 10.9.9.9"], "203.0.113.7"),
        ([b"1.1.1.1", b"203.0.113.7", b"10.9.9.9"], "203.0.113.7"),
        ([b"10.5.5.5, 203.0.113.7"], "203.0.113.7"),
        ([b"203.0.113.7,10.9.9.9,2001:db8:ffff::1"], "203.0.113.7"),
        ([b"203.0.113.7, ::ffff:10.9.9.9"], "203.0.113.7"),
        ([b"\t203.0.113.7  ,  10.9.9.9 "], "203.0.113.7"),
        ([b"203.0.113.7,, ,10.9.9.9,", b""], "203.0.113.7"),
        ([b"203.0.113.7:4711"], "203.0.113.7"),
        ([b"[2001:db8:1:2::7]:4711"], "2001:db8:1:2::/64"),
        ([b"[2001:db8:1:2::7]"], "2001:db8:1:2::/64"),
        ([b"2001:db8:1:2::7"], "2001:db8:1:2::/64"),
        ([b"[fe80::1%eth0]:80"], "fe80::/64"),
        ([b"::ffff:203.0.113.7"], "203.0.113.7"),
        ([b"10.7.7.7, 10.8.8.8"], "10.7.7.7"),
        ([b""], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
    ids=repr,
)
def test_the_key_is_the_rightmost_address_that_is_not_a_proxy(lines, key):
    assert BEHIND_PROXIES.of(x_forwarded(*lines)) == key


UNREADABLE = [
    b"unknown",
    b"_hidden",
    b"unix:",
    b"localhost",
    b"010.0.0.1",
    b"1.2.3",
    b"1.2.3.4.5",
    b"256.1.1.1",
    b"1.2.3.4/8",
    b"1.2.3.4:",
    b"1.2.3.4:123456",
    b"1.2.3.4:http",
    b"[1.2.3.4]",
    b"[2001:db8::1",
    b"2001:db8::1]",
    b"[2001:db8::1]80",
    b"[]",
    b"::1::",
    b"fe80::1%",
    b"fe80::1%a%b",
    b'"1.2.3.4"',
    b"1.2.3.4 5.6.7.8",
    b"\xb2.1.1.1",
    b"\xa01.2.3.4",
    b"1.2.3.4\x00",
    b"1" * 5000,
    b"\xff\xfe",
]


@pytest.mark.parametrize("element", UNREADABLE, ids=lambda element: repr(element[:20]))
def test_an_element_that_is_not_an_address_ends_the_walk(element):
    assert BEHIND_PROXIES.of(x_forwarded(b"1.1.1.1, " + element)) == "10.0.0.1"
    assert BEHIND_PROXIES.of(x_forwarded(b"1.1.1.1, " + element + b", 10.9.9.9")) == "10.9.9.9"
    assert BEHIND_PROXIES.of(x_forwarded(element + b", 203.0.113.7")) == "203.0.113.7"


@pytest.mark.parametrize("peer", [None, "/run/app.sock", ""])
def test_a_proxy_on_a_unix_socket_is_trusted_by_name(peer):
    assert ClientAddress(trusted=["unix"]).of(x_forwarded(b"1.1.1.1, 203.0.113.7", peer=peer)) == "203.0.113.7"
    assert BEHIND_PROXIES.of(x_forwarded(b"203.0.113.7", peer=peer)) == (peer or "unknown")
    assert ClientAddress(trusted=["unix"]).of(x_forwarded(b"1.1.1.1", peer="203.0.113.7")) == "203.0.113.7"


def test_a_trusted_network_of_mapped_addresses_is_one_of_ipv4_addresses():
    mapped = ClientAddress(trusted=["::ffff:10.0.0.0/104"])
    assert mapped.of(x_forwarded(b"203.0.113.7, 10.9.9.9")) == "203.0.113.7"


def test_a_trusted_peer_with_a_zone_is_found_in_its_network():
    local = ClientAddress(trusted=["fe80::/10"])
    assert local.of(x_forwarded(b"203.0.113.7", peer="fe80::1%eth0")) == "203.0.113.7"


# Hops


@pytest.mark.parametrize(
    ("hops", "lines", "key"),
    [
        (1, [b"203.0.113.7"], "203.0.113.7"),
        (1, [b"1.1.1.1, 203.0.113.7"], "203.0.113.7"),
        (2, [b"1.1.1.1, 203.0.113.7, 192.0.2.1"], "203.0.113.7"),
        (2, [b"1.1.1.1", b"203.0.113.7", b"192.0.2.1"], "203.0.113.7"),
        (2, [b"203.0.113.7,,192.0.2.1,"], "203.0.113.7"),
        (2, [b"203.0.113.7, unix:"], "203.0.113.7"),
        (2, [b"203.0.113.7"], "10.0.0.1"),
        (1, [], "10.0.0.1"),
        (1, [b"1.1.1.1, unknown"], "10.0.0.1"),
        (2, [b"1.1.1.1, unknown, 192.0.2.1"], "192.0.2.1"),
        (64, [b"1.1.1.1, 203.0.113.7" + b", 192.0.2.1" * 63], "203.0.113.7"),
    ],
    ids=repr,
)
def test_hops_count_the_proxies_from_the_right(hops, lines, key):
    assert ClientAddress(hops=hops).of(x_forwarded(*lines)) == key


def test_hops_are_counted_in_forwarded_too():
    two = ClientAddress(hops=2, header="Forwarded")
    assert two.of(forwarded(b"for=1.1.1.1, for=203.0.113.7;proto=https, for=_inner")) == "203.0.113.7"
    assert two.of(forwarded(b"for=203.0.113.7")) == "10.0.0.1"
    assert two.of(forwarded(b'for="1.1.1.1, for=192.0.2.1')) == "192.0.2.1"


# Forwarded


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ([b"for=203.0.113.7"], "203.0.113.7"),
        ([b"For=203.0.113.7;proto=http;by=10.0.0.1"], "203.0.113.7"),
        ([b"proto=http; by=10.0.0.1 ; FOR=203.0.113.7"], "203.0.113.7"),
        ([b'for="203.0.113.7:4711"'], "203.0.113.7"),
        ([b'for="203.0.113.7:_port"'], "203.0.113.7"),
        ([b"for=203.0.113.7:4711"], "203.0.113.7"),
        ([b'for="[2001:db8:1:2::7]:4711"'], "2001:db8:1:2::/64"),
        ([b'for="2001:db8:1:2::7"'], "2001:db8:1:2::/64"),
        ([rb'for="\2\03.0.113.7"'], "203.0.113.7"),
        ([b"for=1.1.1.1, for=203.0.113.7, for=10.9.9.9"], "203.0.113.7"),
        ([b"for=1.1.1.1", b"for=203.0.113.7", b"for=10.9.9.9"], "203.0.113.7"),
        ([b"for=203.0.113.7,, ,for=10.9.9.9 ,"], "203.0.113.7"),
        ([b";for=203.0.113.7;;"], "203.0.113.7"),
        ([b'for=203.0.113.7;host="a,for=1.1.1.1;b"'], "203.0.113.7"),
        ([rb'for=203.0.113.7;host="a\",for=1.1.1.1;b=\"\\"'], "203.0.113.7"),
        ([b"for=10.7.7.7, for=10.8.8.8"], "10.7.7.7"),
        ([b""], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
    ids=repr,
)
def test_forwarded_is_read_as_rfc_7239_says(lines, key):
    assert BEHIND_STANDARD_PROXIES.of(forwarded(*lines)) == key


@pytest.mark.parametrize(
    "element",
    [
        b"for=unknown",
        b"for=_hidden",
        b'for="_SEVKISEK:1"',
        b"proto=http",
        b";",
        b"for=203.0.113.7;for=203.0.113.8",
        b"for=",
        b'for=""',
        b"for",
        b"203.0.113.7",
        b"=203.0.113.7",
        b"for = 203.0.113.7",
        b'for="203.0.113.7',
        b'for=203.0.113.7"',
        b'for="203.0.113.7"x',
        b'x"for=203.0.113.7"',
        rb'for="203.0.113.7\"',
        b'for="010.0.0.1"',
    ],
    ids=repr,
)
def test_an_element_of_forwarded_that_gives_no_address_ends_the_walk(element):
    assert BEHIND_STANDARD_PROXIES.of(forwarded(b"for=1.1.1.1, " + element)) == "10.0.0.1"
    assert BEHIND_STANDARD_PROXIES.of(forwarded(b"for=1.1.1.1, " + element + b", for=10.9.9.9")) == "10.9.9.9"


@pytest.mark.parametrize(
    "forged", [b'for="', b'for="1.1.1.1', b'"', b"for=1.1.1.1;", b'for="\\', b"=", b'for="a\\"', b"\\"], ids=repr
)
def test_what_the_client_wrote_cannot_swallow_what_the_proxies_appended(forged):
    for appended in (b"for=203.0.113.7", b'for="203.0.113.7:80"', b'host="a\\"";for="203.0.113.7"'):
        assert BEHIND_STANDARD_PROXIES.of(forwarded(forged + b", " + appended)) == "203.0.113.7"
        assert BEHIND_STANDARD_PROXIES.of(forwarded(forged, appended + b', for="10.9.9.9"')) == "203.0.113.7"


def test_only_the_header_that_was_named_is_read():
    both = scope(x_forwarded_for=b"1.1.1.1", forwarded=b"for=203.0.113.7")
    assert BEHIND_PROXIES.of(both) == "1.1.1.1"
    assert BEHIND_STANDARD_PROXIES.of(both) == "203.0.113.7"
    assert BEHIND_PROXIES.of(forwarded(b"for=1.1.1.1")) == "10.0.0.1"
    assert BEHIND_STANDARD_PROXIES.of(x_forwarded(b"1.1.1.1")) == "10.0.0.1"


# Long headers


@pytest.mark.parametrize(
    ("by", "name", "form"), [(BEHIND_PROXIES, "x", "{}"), (BEHIND_STANDARD_PROXIES, "f", "for={}")]
)
def test_the_last_64_elements_are_read(by, name, form):
    request = x_forwarded if name == "x" else forwarded
    chain = [form.format(address).encode() for address in ("203.0.113.7", *(f"10.1.1.{n}" for n in range(1, 65)))]
    assert by.of(request(b",".join(chain))) == "10.1.1.1"
    assert by.of(request(b",".join(chain[:-1]))) == "203.0.113.7"
    assert by.of(request(*chain)) == "10.1.1.1"
    assert by.of(request(*chain[:-1])) == "203.0.113.7"


@pytest.mark.parametrize(
    ("by", "request_of", "form"),
    [(BEHIND_PROXIES, x_forwarded, b"%s"), (BEHIND_STANDARD_PROXIES, forwarded, b"for=%s")],
)
def test_an_element_that_the_bound_of_8_kib_cuts_in_two_is_not_read(by, request_of, form):
    outer, inner = form % b"123.0.113.7", form % b"10.9.9.9"
    for cut in range(-3, len(outer) + 1):  # the rest of an address may be one, too: 23.0.113.7
        spaces = 8192 + cut - len(outer + b"," + inner)
        line = outer + b"," + b" " * spaces + inner
        expected = "123.0.113.7" if cut <= 0 else "10.9.9.9"
        assert by.of(request_of(line)) == expected
        assert by.of(request_of(b"1.1.1.1," * 2000, line)) == expected


def test_long_text_that_clients_send_is_not_kept_in_memory():
    by = ClientAddress(trusted=PROXIES)
    for n in range(100):
        by.of(x_forwarded(b"%d" % n * 5000))
    assert by._read_cached.cache_info().currsize == 1


# Headers


def test_the_value_of_a_header_is_the_key_as_it_stands():
    by_key = Header("X-API-Key")
    for value in ("abc", "ABC", " a b ", "a,b", "é", "\N{PILE OF POO}", "x" * 256, "é" * 256, "\N{PILE OF POO}" * 256):
        assert by_key.of(scope(x_api_key=value.encode())) == value
    assert header("x-api-key").of(scope(x_api_key=b"abc")) == "abc"


EXPECTED = "must be sent once, as 1 to 256 characters of UTF-8; got "
INVALID = [
    ([b"secret", b"secret"], "it twice"),
    ([b"secret", b"", b"secret"], "it 3 times"),
    ([b""], "0 characters"),
    ([b"s" * 257], "257 characters"),
    ([b"s" * 10**6], "1000000 bytes"),
    ([b"secret\xff"], "bytes that are not UTF-8"),
    ([b"secret\xed\xa0\x80"], "bytes that are not UTF-8"),
    ([b"secret\xc0\x80"], "bytes that are not UTF-8"),
    ([b"\x00secret"], "a control character"),
    ([b"se\tcret"], "a control character"),
    ([b"secret\x7f"], "a control character"),
    ([b"secret\xc2\x85"], "a control character"),
]


@pytest.mark.parametrize(("lines", "got"), INVALID, ids=lambda value: repr(value)[:30])
def test_an_invalid_header_is_a_400_that_never_quotes_it(lines, got):
    with pytest.raises(InvalidIdentity) as caught:
        Header("X-API-Key", missing=client_address).of(scope(x_api_key=lines))
    assert caught.value.detail == str(caught.value) == f"X-API-Key {EXPECTED}{got}"
    assert caught.value.status == 400
    assert isinstance(caught.value, ValueError)


def test_a_missing_header_without_a_stand_in_is_invalid():
    with pytest.raises(InvalidIdentity, match=f"^X-API-Key {EXPECTED}none$"):
        Header("X-API-Key").of(scope())


def test_a_stand_in_never_has_the_key_of_a_value():
    by_key = Header("X-API-Key", missing=Cookie("session", missing=client_address))
    assert by_key.of(scope("203.0.113.7", x_api_key=b"203.0.113.7")) == "203.0.113.7"
    assert by_key.of(scope("203.0.113.7", cookie=b"session=203.0.113.7")) == "\x00203.0.113.7"
    assert by_key.of(scope("203.0.113.7")) == "\x00\x00203.0.113.7"
    for forged in (b"session=\x00203.0.113.7", rb'session="\000203.0.113.7"'):
        with pytest.raises(InvalidIdentity, match="a control character"):
            by_key.of(scope("203.0.113.7", cookie=forged))


# Cookies


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ([b"session=abc"], "abc"),
        ([b"a=1; session=abc; b=2"], "abc"),
        ([b"a=1;session=abc;b=2"], "abc"),
        ([b"a=1", b"session=abc"], "abc"),
        ([b"session = abc "], "abc"),
        ([b"\x0bsession=abc"], "abc"),
        ([b"session=a=b=="], "a=b=="),
        ([b'session="abc"'], "abc"),
        ([rb'session="\141b\c"'], "abc"),
        ([b'session="'], '"'),
        ([b"xsession=1; session=abc; session2=2; Session=3"], "abc"),
        (["session=\u00e9".encode()], "\u00e9"),
    ],
    ids=repr,
)
def test_the_value_of_a_cookie_is_the_key(lines, key):
    assert Cookie("session").of(scope(cookie=lines)) == cookie("session").of(scope(cookie=lines)) == key


def test_a_session_has_one_key_however_starlette_may_be_brought_to_read_it():
    from starlette.requests import Request

    by_session = Cookie("session")
    for line in (
        b"session=abc",
        b' session="abc"',
        rb'session="\141\142\143"',
        b"\xa0session=abc\xa0",
        b"session\t=abc",
    ):
        request = scope(cookie=line)
        assert Request(request).cookies["session"] == by_session.of(request) == "abc"


@pytest.mark.parametrize(
    ("lines", "got"),
    [
        ([b"session=a; session=a"], "it twice"),
        ([b"session=a", b"\xa0session=b"], "it twice"),
        ([b"session="], "0 characters"),
        ([b'session=""'], "0 characters"),
        ([b"session=" + b"a" * 257], "257 characters"),
        ([rb'session="\351"'], "bytes that are not UTF-8"),
        ([b"xsession=a; session"], "none"),
        ([], "none"),
    ],
    ids=repr,
)
def test_an_invalid_cookie_is_a_400_that_never_quotes_it(lines, got):
    with pytest.raises(InvalidIdentity) as caught:
        Cookie("session").of(scope(cookie=lines))
    assert caught.value.detail == f"Cookie session {EXPECTED}{got}"


def test_the_name_of_a_cookie_is_not_a_pattern():
    assert Cookie("a.c", missing=client_address).of(scope(cookie=b"abc=1; a.c=2")) == "2"


# Users


class Account(BaseUser):
    """A user as applications write them."""

    def __init__(self, identity: object = None, display_name: object = "Ann") -> None:
        self._identity, self._display_name = identity, display_name

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> object:
        return self._display_name

    @property
    def identity(self) -> object:
        return self._identity


@pytest.mark.parametrize(
    ("someone", "key"),
    [
        (SimpleUser("ann"), "ann"),
        (Account("id-7"), "id-7"),
        (Account(7), "Ann"),
        (Account(""), "Ann"),
        (UnauthenticatedUser(), "\x0010.0.0.1"),
        (BaseUser(), "\x0010.0.0.1"),
        (None, "\x0010.0.0.1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_user_is_the_key_and_the_address_of_somebody_unknown(someone, key):
    assert user.of(scope() | {"user": someone}) == key


def test_without_authentication_the_address_is_the_key():
    assert user.of(scope()) == "\x0010.0.0.1"


@pytest.mark.parametrize(
    ("someone", "got"),
    [
        (UnauthenticatedUser(), "none"),
        (Account(7, 7), "0 characters"),
        (Account("\x0010.0.0.1"), "a control character"),
        (Account("a" * 257), "257 characters"),
        (Account("\ud800"), "bytes that are not UTF-8"),
    ],
)
def test_a_user_without_a_valid_name_is_invalid(someone, got):
    with pytest.raises(InvalidIdentity, match=f"^The user must be .* with a name of 1 to 256 characters; got {got}$"):
        User().of(scope() | {"user": someone})


# Options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trusted": "10.0.0.0/8"}, "trusted must be a list of networks.*, got '10.0.0.0/8'$"),
        ({"trusted": 5}, "trusted must be a list of networks.*, got 5$"),
        ({"trusted": ["10.0.0.1/8"]}, "got '10.0.0.1/8' in it; write 10.0.0.0/8$"),
        ({"trusted": ["*"]}, "got '\\*' in it$"),
        ({"trusted": ["fe80::1%eth0"]}, "in it$"),
        ({"trusted": [10]}, "got 10 in it$"),
        ({"trusted": ["unix"], "hops": 1}, "trusted and hops must not be given together"),
        ({"hops": 0}, "hops must be a whole number from 1 to 64, got 0$"),
        ({"hops": 65}, "hops must be a whole number from 1 to 64, got 65$"),
        ({"hops": True}, "hops must be a whole number from 1 to 64, got True$"),
        ({"hops": 1.0}, "hops must be a whole number from 1 to 64, got 1.0$"),
        ({"ipv6_prefix": 0}, "ipv6_prefix must be a whole number from 1 to 128, got 0$"),
        ({"ipv6_prefix": 129}, "ipv6_prefix must be a whole number from 1 to 128, got 129$"),
        ({"header": "X-Real-IP"}, 'header must be "X-Forwarded-For" or "Forwarded", got \'X-Real-IP\'$'),
    ],
    ids=repr,
)
def test_an_invalid_option_is_refused_when_the_key_is_made(options, said):
    with pytest.raises(InvalidPolicy, match=said):
        ClientAddress(**options)


@pytest.mark.parametrize("kind", [Header, Cookie])
@pytest.mark.parametrize("name", ["", "X-API-Key:", "X API Key", "\u00e9", "a=b", "a;b", "a\n", None, 5], ids=repr)
def test_a_name_that_cannot_be_one_is_refused(kind, name):
    with pytest.raises(
        InvalidPolicy, match=r"^name must be the name of a (header|cookie), without spaces and colons, got "
    ):
        kind(name)


@pytest.mark.parametrize("missing", ["unknown", ClientAddress, lambda request: "a", 5])
def test_a_stand_in_that_is_not_a_key_of_the_request_is_refused(missing):
    for make in (
        lambda: Header("a", missing=missing),
        lambda: Cookie("a", missing=missing),
        lambda: User(missing=missing),
    ):
        with pytest.raises(
            InvalidPolicy, match="missing must be a key of the request, such as client_address, or None"
        ):
            make()


# On a real server


def test_a_server_on_a_unix_socket_gives_the_address_that_its_proxy_saw(tmp_path):
    behind = ClientAddress(trusted=["unix"])

    async def app(scope, receive, send):
        key = f"{client_address.of(scope)} {behind.of(scope)}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": key})

    path = tmp_path / "app.sock"
    with served(app, path):
        assert get(path, {"X-Forwarded-For": "1.1.1.1, 203.0.113.7"}) == "unknown 203.0.113.7"
        assert get(path, {}) == "unknown unknown"


@contextmanager
def served(app: Any, path: Path) -> Iterator[None]:
    """Run a real server on a unix socket."""
    server = uvicorn.Server(uvicorn.Config(app, uds=str(path), log_config=None, lifespan="off", proxy_headers=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + 30
        while not server.started and time.monotonic() < end:
            time.sleep(0.005)
        yield
    finally:
        server.should_exit = True
        thread.join()


def get(path: Path, headers: dict[str, str]) -> str:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    try:
        connection.request("GET", "/", headers=headers)
        return connection.getresponse().read().decode()
    finally:
        connection.close()
