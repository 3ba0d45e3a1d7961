"""Who the client of a request is, read from its ASGI scope alone: its address, a header, a cookie or its user.

A client can write anything into a header, and proxies append to the right of it. So forwarded addresses are read from
the right, and only as far as your own proxies have written them; by default no header is read at all.

Source: RFC 7239 for Forwarded; RFC 9110, section 5.3, for repeated lines; RFC 6265, section 5.4, for cookies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, Literal, NamedTuple

from sluicegate._core.errors import InvalidPolicy, SluicegateError, short_repr, type_repr

__all__ = [
    "ClientAddress",
    "Cookie",
    "Header",
    "InvalidIdentity",
    "ScopeKey",
    "User",
    "client_address",
    "cookie",
    "header",
    "user",
]

MOST_ELEMENTS: Final = 64
"""Elements of a forwarding header that are read, from the right; also the most hops."""

MOST_BYTES: Final = 8192
"""Bytes of a forwarding header that are read, from the right."""

LONGEST_VALUE: Final = 256
"""Characters of a header, a cookie or a user's name that is a key."""

_LONGEST_ADDRESS = 100  # the longest IPv6 address with a zone and a port has about 70
_ADDRESSES_KEPT = 4096
_FALLBACK = "\x00"  # no value has a control character, so none equals a fallback
_UNIX = "unix"
_UNKNOWN = "unknown"
_USUAL_PREFIX = 64  # bits of the IPv6 network that one client commonly has

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network


class InvalidIdentity(SluicegateError, ValueError):
    """A request does not say who its client is, or not clearly. It is the client's fault, and nothing was taken.

    Attributes:
        detail: A sentence for the client that says what is expected and what is wrong. It never quotes the value.
        status: The status of the response, 400.
    """

    status: Final = 400

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class ScopeKey:
    """A key that the request alone gives, before its body is read and before any dependency runs.

    Subclass it for a key of your own.
    """

    def of(self, scope: Mapping[str, Any]) -> str:
        """Return the key of a request, by its ASGI scope.

        Raises:
            InvalidIdentity: The request does not give one.
        """
        raise NotImplementedError  # no abstract class: isinstance() takes longer for one, and is asked for each request

    def __str__(self) -> str:
        """Name the key for people; a subclass with options should say which."""
        return type(self).__name__


# Addresses


class _Seen(NamedTuple):
    key: str
    trusted: bool


class ClientAddress(ScopeKey):
    """Count by the client's IP address; IPv6 by its network, as one client commonly has a whole /64.

    Without options it is the peer of the connection, and no header is read. Behind proxies, say which ones they are
    (``trusted``) or how many (``hops``). The key is then the address that the outermost of them saw, never text that
    the client wrote itself. An element that is not an address ends the walk: the key is the address to its right.

    A peer without an IP address, such as the path of a unix socket, is a key as it stands; no peer at all is "unknown".
    The peer is the one that the server names: uvicorn replaces it by an address from X-Forwarded-For if the connection
    comes from the same machine, unless it runs with ``--no-proxy-headers``.

    Args:
        trusted: The networks of your proxies, such as ``10.0.0.0/8``, or "unix" for a peer without an IP address. The
            header is read only if the peer is trusted, from the right to the first address that is not; the leftmost
            one if all are.
        hops: The number of proxies in front of the application, from 1 to 64, if their addresses are not known: the key
            is that element of the header, counted from the right. A request with fewer came around them: its key is
            the peer. All requests must come through the proxies: one that does not can write the element itself.
        header: The header that your proxies append to. The other one is never read: proxies pass it through.
        ipv6_prefix: The length in bits, from 1 to 128, of the IPv6 networks that are counted as one client.

    Raises:
        InvalidPolicy: An option is invalid, or both ``trusted`` and ``hops`` are given.
    """

    def __init__(
        self,
        *,
        trusted: Iterable[str] = (),
        hops: int | None = None,
        header: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For",
        ipv6_prefix: int = _USUAL_PREFIX,
    ) -> None:
        names = _checked_trusted(trusted)
        if names and hops is not None:
            raise InvalidPolicy(
                "trusted and hops must not be given together; give trusted alone if you know the proxies"
            )
        if header not in _ELEMENTS:
            raise InvalidPolicy(f'header must be "X-Forwarded-For" or "Forwarded", got {short_repr(header)}')
        networks = [_network(name) for name in names if name != _UNIX]
        prefix = _checked_range("ipv6_prefix", ipv6_prefix, 128)
        self._hops = None if hops is None else _checked_range("hops", hops, MOST_ELEMENTS)
        self._trusts_unix = _UNIX in names
        self._options = _written(
            trusted=names or None,
            hops=hops,
            header=None if header == "X-Forwarded-For" else header,
            ipv6_prefix=None if prefix == _USUAL_PREFIX else prefix,
        )
        self._header = header.lower().encode()
        self._elements = _ELEMENTS[header]
        # Most requests come from few addresses, and to parse one takes microseconds.
        self._read_cached = lru_cache(maxsize=_ADDRESSES_KEPT)(partial(_read, networks=networks, prefix=prefix))

    def of(self, scope: Mapping[str, Any]) -> str:
        """Return the address of the client, such as ``203.0.113.7`` or ``2001:db8:1:2::/64``. Never raises."""
        peer = self._peer(scope)
        if self._hops is not None:
            return self._counted(scope, peer, self._hops)
        return self._walked(scope, peer) if peer.trusted else peer.key

    def __repr__(self) -> str:
        return f"ClientAddress({self._options})"

    def __str__(self) -> str:
        """Name the key, with the options that differ from the defaults."""
        return f"client_address({self._options})" if self._options else "client_address"

    def _peer(self, scope: Mapping[str, Any]) -> _Seen:
        try:
            host = scope["client"][0]
        except (KeyError, IndexError, TypeError):
            host = None
        if not isinstance(host, str) or not host:
            return _Seen(_UNKNOWN, self._trusts_unix)
        seen = self._read_cached(host) if len(host) <= _LONGEST_ADDRESS else None
        # A path may hold bytes that are not UTF-8, which Python reads as surrogates: no key may have them.
        return seen or _Seen(host.encode(errors="backslashreplace").decode(), self._trusts_unix)

    def _walked(self, scope: Mapping[str, Any], peer: _Seen) -> str:
        last = peer
        for element in self._forwarded(scope):
            seen = self._seen(element)
            if seen is None:
                break
            last = seen
            if not seen.trusted:
                break
        return last.key

    def _counted(self, scope: Mapping[str, Any], peer: _Seen, hops: int) -> str:
        last = peer
        for count, element in enumerate(self._forwarded(scope), 1):
            last = self._seen(element) or last
            if count == hops:
                return last.key
        return peer.key

    def _forwarded(self, scope: Mapping[str, Any]) -> Iterator[str]:
        return self._elements(*_tail(_lines(scope, self._header)))

    def _seen(self, text: str) -> _Seen | None:
        # Long text is not kept: thousands of such headers would fill the memory.
        return self._read_cached(text) if len(text) <= _LONGEST_ADDRESS else None


def _read(text: str, *, networks: Iterable[_Network], prefix: int) -> _Seen | None:
    """Return the key of an address and whether one of the networks has it; None if the text is not an address."""
    address = _parsed(text)
    if address is None:
        return None
    # The number alone: without the zone.
    key = str(address) if address.version == 4 else str(IPv6Network((int(address), prefix), strict=False))
    return _Seen(key, any(address in network for network in networks))


# An IPv6 address in brackets or an IPv4 address, perhaps with a port; or an IPv6 address alone.
_NODE = re.compile(r"(?:\[([^]]*:[^]]*)]|([0-9.]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?|(.*:.*)")


def _parsed(text: str) -> _Address | None:
    node = _NODE.fullmatch(text)
    if node is None:
        return None
    try:
        address = ip_address(node[1] or node[2] or node[3])
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or address


# Forwarding headers. Each function yields the elements from the right, "" for one that is not an address.


def _tail(lines: list[bytes]) -> tuple[str, bool]:
    """Return the end of the list that the lines are together, and whether its first element may have lost its head."""
    joined = b",".join(lines)
    # One byte more: if that is a comma, nothing has lost its head.
    return joined[-MOST_BYTES - 1 :].decode("latin-1"), len(joined) > MOST_BYTES


def _x_forwarded_for_elements(text: str, cut: bool) -> Iterator[str]:
    parts = text.rsplit(",", MOST_ELEMENTS)
    if cut or len(parts) > MOST_ELEMENTS:
        del parts[0]
    elements = (part.strip(" \t") for part in reversed(parts))
    return (element for element in elements if element)


# A parameter, read backwards: its value, its name, and the separator before it. Read from the left, a quotation mark
# that a client wrote and did not close would swallow the elements that the proxies appended. Backwards these come
# first, and nothing to their left can change them. A quotation mark after a backslash is part of the value: the one
# that opens it stands after "=". More than tokens is read without quotation marks, as many proxies do not quote a port.
_PARAMETER = re.compile(
    r"""
    [ \t]*+
    (?:
        (?: "(?P<quoted>(?:[^"]|"(?=\\))*+)" | (?P<bare>[^\s",;=\\]++) )
        = (?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]++)
        [ \t]*+
    )?+
    (?P<end>[;,]|\Z)
    """,
    re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def _forwarded_elements(text: str, cut: bool) -> Iterator[str]:
    backwards, at = text[::-1], 0
    for _ in range(MOST_ELEMENTS):
        addresses, empty, end = [], True, ";"
        while end == ";":
            parameter = _PARAMETER.match(backwards, at)
            if parameter is None:
                yield ""
                return
            at, end = parameter.end(), parameter["end"]
            empty = empty and parameter["name"] is None and end != ";"
            if parameter["name"] and parameter["name"][::-1].lower() == "for":
                addresses.append(_value(parameter))
        if end == "" and cut:
            return
        if not empty:
            yield addresses[0] if len(addresses) == 1 else ""
        if end == "":
            return


def _value(parameter: re.Match[str]) -> str:
    bare: str | None = parameter["bare"]
    return _ESCAPED.sub(r"\1", parameter["quoted"][::-1]) if bare is None else bare[::-1]


_ELEMENTS = {"X-Forwarded-For": _x_forwarded_for_elements, "Forwarded": _forwarded_elements}


# Values that the client sends


class Header(ScopeKey):
    """Count by the value of a header, such as an API key. It is not verified: your application does that.

    The value is a key as it stands, compared with case. It must be sent once, as 1 to 256 characters of UTF-8 without
    control characters.

    Args:
        name: The header's name, in any case.
        missing: What to count requests without the header by; such keys never equal a value of the header. Without it
            these requests are invalid.

    Raises:
        InvalidPolicy: ``name`` is not the name of a header, or ``missing`` is not a key of the request.
    """

    def __init__(self, name: str, *, missing: ScopeKey | None = None) -> None:
        self._name = _checked_name("the name of a header", name)
        self._missing = _checked_missing(missing)
        self._wanted = name.lower().encode()

    def of(self, scope: Mapping[str, Any]) -> str:
        """Return the value of the header, or the key by ``missing`` after a NUL.

        Raises:
            InvalidIdentity: The header is missing and nothing stands in for it, or its value is invalid.
        """
        return _only(self._name, _lines(scope, self._wanted), self._missing, scope)

    def __repr__(self) -> str:
        return f"Header({_arguments(self._name, self._missing)})"

    def __str__(self) -> str:
        """Name the key, and what stands in for it."""
        return f"header {self._name}{_else(self._missing)}"


class Cookie(ScopeKey):
    """Count by the value of a cookie, such as a session. It is not verified: your application does that.

    It is read as Python's ``http.cookies`` and the frameworks built on it do: without quotation marks and escapes, or
    one session could be written in many ways, each with a budget of its own. The rest is as for a `Header`.

    Args:
        name: The cookie's name, compared with case.
        missing: What to count requests without the cookie by; such keys never equal a value of the cookie. Without it
            these requests are invalid.

    Raises:
        InvalidPolicy: ``name`` is not the name of a cookie, or ``missing`` is not a key of the request.
    """

    def __init__(self, name: str, *, missing: ScopeKey | None = None) -> None:
        self._name = _checked_name("the name of a cookie", name)
        self._missing = _checked_missing(missing)
        self._pair = re.compile(rf"(?:^|;)\s*+{re.escape(name)}\s*+=([^;]*+)")

    def of(self, scope: Mapping[str, Any]) -> str:
        """Return the value of the cookie, or the key by ``missing`` after a NUL.

        Raises:
            InvalidIdentity: The cookie is missing and nothing stands in for it, or its value is invalid.
        """
        pairs = b";".join(_lines(scope, b"cookie")).decode("latin-1")  # HTTP/2 may send each cookie in its own line
        values = [_unquoted(value.strip()) for value in self._pair.findall(pairs)]
        return _only(f"Cookie {self._name}", values, self._missing, scope)

    def __repr__(self) -> str:
        return f"Cookie({_arguments(self._name, self._missing)})"

    def __str__(self) -> str:
        """Name the key, and what stands in for it."""
        return f"cookie {self._name}{_else(self._missing)}"


_COOKIE_ESCAPE = re.compile(r"\\(?:([0-3][0-7]{2})|(.))", re.DOTALL)


def _unquoted(value: str) -> bytes:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = _COOKIE_ESCAPE.sub(lambda found: chr(int(found[1], 8)) if found[1] else found[2], value[1:-1])
    return value.encode("latin-1")


class User(ScopeKey):
    """Count by the user in the scope, as Starlette's ``AuthenticationMiddleware`` puts it there.

    The key is the user's ``identity`` if that is text, and else the ``display_name``. It must have 1 to 256 characters
    and no control characters.

    Args:
        missing: What to count requests without an authenticated user by; such keys never equal a user's. Without it
            these requests are invalid.

    Raises:
        InvalidPolicy: ``missing`` is not a key of the request.
    """

    def __init__(self, *, missing: ScopeKey | None = None) -> None:
        self._missing = _checked_missing(missing)

    def of(self, scope: Mapping[str, Any]) -> str:
        """Return the name of the user, or the key by ``missing`` after a NUL.

        Raises:
            InvalidIdentity: Nobody is authenticated and nothing stands in for it, or the user has no valid name.
        """
        expected = f"The user must be authenticated, with a name of 1 to {LONGEST_VALUE} characters"
        someone = scope.get("user")
        if not _attribute(someone, "is_authenticated"):
            return _instead(expected, self._missing, scope)
        names = (_attribute(someone, each) for each in ("identity", "display_name"))
        name = next((str.__str__(each) for each in names if isinstance(each, str) and each), "")
        return _checked_value(expected, name.encode(errors="surrogatepass"))

    def __repr__(self) -> str:
        return f"User({_arguments(None, self._missing)})"

    def __str__(self) -> str:
        """Name the key, and what stands in for it."""
        return f"user{_else(self._missing)}"


def _attribute(someone: object, name: str) -> object:
    try:
        return getattr(someone, name, None)
    except NotImplementedError:  # what Starlette's BaseUser raises for an attribute that a subclass leaves out
        return None


def _only(name: str, values: list[bytes], missing: ScopeKey | None, scope: Mapping[str, Any]) -> str:
    expected = f"{name} must be sent once, as 1 to {LONGEST_VALUE} characters of UTF-8"
    if not values:
        return _instead(expected, missing, scope)
    if len(values) > 1:
        raise InvalidIdentity(f"{expected}; got it {'twice' if len(values) == 2 else f'{len(values)} times'}")
    return _checked_value(expected, values[0])


def _instead(expected: str, missing: ScopeKey | None, scope: Mapping[str, Any]) -> str:
    if missing is None:
        raise InvalidIdentity(f"{expected}; got none")
    return _FALLBACK + missing.of(scope)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _checked_value(expected: str, value: bytes) -> str:
    if len(value) > 4 * LONGEST_VALUE:  # before decoding: it may be a megabyte
        raise InvalidIdentity(f"{expected}; got {len(value)} bytes")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise InvalidIdentity(f"{expected}; got bytes that are not UTF-8") from None
    if not 1 <= len(text) <= LONGEST_VALUE:
        raise InvalidIdentity(f"{expected}; got {len(text)} characters")
    if _CONTROL.search(text):
        raise InvalidIdentity(f"{expected}; got a control character")
    return text


def _lines(scope: Mapping[str, Any], wanted: bytes) -> list[bytes]:
    return [value for name, value in scope.get("headers") or () if name == wanted]


# Keys in words


def _written(**options: object) -> str:
    """Return the options that were given, as they are written in a call."""
    return ", ".join(f"{name}={value!r}" for name, value in options.items() if value is not None)


def _arguments(name: str | None, missing: ScopeKey | None) -> str:
    return ", ".join(each for each in (repr(name) if name else "", _written(missing=missing)) if each)


def _else(missing: ScopeKey | None) -> str:
    return "" if missing is None else f", else {missing}"


# Options


def _checked_trusted(trusted: Iterable[str]) -> list[str]:
    expected = 'trusted must be a list of networks, such as "10.0.0.0/8", or "unix"'
    if isinstance(trusted, str) or not isinstance(trusted, Iterable):
        raise InvalidPolicy(f"{expected}, got {short_repr(trusted)}")
    names = list(trusted)
    for name in names:
        if not isinstance(name, str) or (name != _UNIX and not _is_network(name)):
            raise InvalidPolicy(f"{expected}, got {short_repr(name)} in it{_as_network(name)}")
    return names


def _is_network(name: str, *, strict: bool = True) -> bool:
    try:
        ip_network(name, strict=strict)
    except ValueError:
        return False
    return "%" not in name


def _as_network(name: object) -> str:
    """Return the advice for an address with a prefix that cuts a part of it off."""
    return (
        f"; write {ip_network(name, strict=False)}" if isinstance(name, str) and _is_network(name, strict=False) else ""
    )


def _network(name: str) -> _Network:
    network = ip_network(name)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped:
        # Addresses of such a network are read as IPv4 ones.
        return IPv4Network((int(network.network_address.ipv4_mapped), network.prefixlen - 96))
    return network


def _checked_range(parameter: str, value: int, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise InvalidPolicy(f"{parameter} must be a whole number from 1 to {most}, got {short_repr(value)}")
    return value


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _checked_name(what: str, name: str) -> str:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise InvalidPolicy(f"name must be {what}, without spaces and colons, got {short_repr(name)}")
    return name


def _checked_missing(missing: ScopeKey | None) -> ScopeKey | None:
    if missing is not None and not isinstance(missing, ScopeKey):
        raise InvalidPolicy(
            f"missing must be a key of the request, such as client_address, or None, got {type_repr(missing)}"
        )
    return missing


client_address = ClientAddress()
"""The peer of the connection; no header is read."""

header = Header
cookie = Cookie

user = User(missing=client_address)
"""The authenticated user; the peer of the connection if there is none."""
