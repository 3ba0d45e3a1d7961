"""Any request gives a key or a 400, soon; and what a client writes to the left of its proxies changes nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate.web.identity import ClientAddress, Cookie, Header, InvalidIdentity, ScopeKey, User, client_address

TRUSTED = ["10.0.0.0/8", "2001:db8:ffff::/48", "unix"]
X_FORWARDED, FORWARDED = b"x-forwarded-for", b"forwarded"
BY_HEADER = {
    X_FORWARDED: ClientAddress(trusted=TRUSTED),
    FORWARDED: ClientAddress(trusted=TRUSTED, header="Forwarded"),
}
KEYS: list[ScopeKey] = [
    client_address,
    *BY_HEADER.values(),
    ClientAddress(hops=1),
    ClientAddress(hops=3, header="Forwarded", ipv6_prefix=1),
    Header("X-API-Key", missing=client_address),
    Cookie("session", missing=Header("X-API-Key")),
    User(missing=client_address),
]

# Whatever matters to a parser, beside bytes of any kind.
PIECES = [
    *(
        b'" \\ , ; = : [ ] % . \t 0 / \x00 \xff \xa0 for for=" host= session= " 10.0.0.1 1.2.3.4 ::1 fe80::1%e'.split(
            b" "
        )
    ),
    *(
        b'for=10.0.0.1, |for="[2001:db8:ffff::1]:1", |for=1.2.3.4;|10.0.0.9, |unknown|::ffff:10.0.0.1, | |\\"'.split(
            b"|"
        )
    ),
]
HEADER_TEXT = st.one_of(st.binary(max_size=80), st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join))
NAMES = st.sampled_from([X_FORWARDED, FORWARDED, b"cookie", b"x-api-key", b"host"]) | st.binary(max_size=20)
HEADERS = st.lists(st.tuples(NAMES, HEADER_TEXT), max_size=8)

ADDRESSES = st.ip_addresses().map(str)
PROXIES = st.sampled_from(["10.0.0.1", "10.255.0.3", "2001:db8:ffff::1", "2001:db8:ffff:8::2", "::ffff:10.1.1.1"])
HOSTS = st.one_of(ADDRESSES, PROXIES, st.text(max_size=30), st.none(), st.integers(), st.binary(max_size=5))
CLIENTS = st.one_of(st.none(), st.tuples(HOSTS, st.integers()), st.lists(HOSTS, max_size=2), st.integers(), st.text())


@given(client=CLIENTS, headers=HEADERS)
def test_any_request_gives_a_key_or_a_400(client, headers):
    scope = {"type": "http", "client": client, "headers": headers}
    for each in KEYS:
        key = key_or_none(each, scope)
        if key is not None:
            key.encode()  # text that every store can keep
            assert key


def key_or_none(by: ScopeKey, scope: dict[str, Any]) -> str | None:
    try:
        return by.of(scope)
    except InvalidIdentity:
        return None


@st.composite
def chains(draw: st.DrawFn) -> tuple[str, bytes, bytes]:
    """Draw a trusted peer, a header's name, and what the proxies appended to it: a client, then proxies of ours."""
    name = draw(st.sampled_from([X_FORWARDED, FORWARDED]))
    appended = [draw(ADDRESSES.filter(is_outside)), *draw(st.lists(PROXIES, max_size=3))]
    elements = [draw(written(address)) if name == FORWARDED else address for address in appended]
    return draw(PROXIES), name, ", ".join(elements).encode()


def is_outside(address: str) -> bool:
    key = ClientAddress(ipv6_prefix=48).of({"client": (address, 1)})
    return not key.startswith("10.") and key != "2001:db8:ffff::/48"


def written(address: str) -> st.SearchStrategy[str]:
    """Write an element of Forwarded in one of the ways of a proxy; its host is text that the client chose, quoted."""
    host = st.text('a,;=:"\\ ', max_size=10).map(lambda text: text.replace("\\", r"\\").replace('"', r"\""))
    node = f'"[{address}]:4711"' if ":" in address else address
    return host.flatmap(
        lambda text: st.sampled_from([f"for={node}", f'for={node};host="{text}"', f'host="{text}";FOR={node}'])
    )


@given(chain=chains(), forged=HEADER_TEXT, own_line=st.booleans())
@example(chain=("10.0.0.1", FORWARDED, b'for="[2001:db8::1]:1"'), forged=b'for="1.1.1.1', own_line=False)
@example(chain=("10.0.0.1", FORWARDED, b'for=1.2.3.4;host="\\\\"'), forged=b'x="\\', own_line=True)
def test_what_the_client_wrote_never_changes_the_key(chain, forged, own_line):
    peer, name, appended = chain
    lines = [forged, appended] if own_line else [forged + b", " + appended]
    by = BY_HEADER[name]
    alone = by.of({"client": (peer, 1), "headers": [(name, appended)]})
    assert by.of({"client": (peer, 1), "headers": [(name, line) for line in lines]}) == alone


@given(client=ADDRESSES, headers=HEADERS)
def test_without_options_no_header_changes_the_key(client, headers):
    plain = {"client": (client, 1), "headers": []}
    assert client_address.of({**plain, "headers": headers}) == client_address.of(plain)


@given(session=HEADER_TEXT, address=ADDRESSES)
def test_no_value_is_the_key_of_a_stand_in(session, address):
    by = Cookie("session", missing=client_address)
    stand_in = by.of({"client": (address, 1), "headers": []})
    sent = key_or_none(by, {"client": (address, 1), "headers": [(b"cookie", b"session=" + session)]})
    assert sent != stand_in


MEGABYTE = 2**20
HOSTILE = [
    b",",
    b";",
    b'"',
    b"\\",
    b'\\"',
    b"=",
    b" ",
    b"a=b;",
    b"for=10.0.0.1,",
    b"10.0.0.1,",
    b'for="',
    b"\xff",
    b":",
    b"[",
]


@pytest.mark.parametrize("name", [X_FORWARDED, FORWARDED])
@pytest.mark.parametrize("unit", HOSTILE, ids=repr)
def test_a_megabyte_of_header_costs_no_more_than_its_end(name, unit):
    text = unit * (MEGABYTE // len(unit))
    for lines in ([text], [text[i : i + 4096] for i in range(0, MEGABYTE, 4096)]):
        scope = {"client": ("10.0.0.1", 1), "headers": [(name, line) for line in lines]}
        assert shortest(BY_HEADER[name], scope) < 0.02  # seconds; about 0.001 at most on an idle machine


def shortest(by: ScopeKey, scope: dict[str, Any]) -> float:
    """Measure the processor time of a call, the shortest of five: other processes do not count."""
    times = []
    for _ in range(5):
        start = time.thread_time()
        by.of(scope)
        times.append(time.thread_time() - start)
    return min(times)
