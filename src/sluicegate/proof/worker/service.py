"""`Service`: call a running service as a limiter. 200 is allowed, 429 is denied, anything else is an error."""

import datetime as dt
import http.client
import select
import ssl
import threading
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from .answers import Answer
from .clocks import true_monotonic, true_time_ns
from .template import Template

_PATIENCE = 10.0  # seconds to wait for the service at each step
_IDLE = 1.0  # seconds after which an idle connection is replaced: the service may be closing it at this moment
_LARGEST_BODY = 1 << 20


class UnexpectedStatus(Exception):
    """The service answered neither 200 nor 429. A redirect counts as such an answer: it is not followed."""


class Service:
    """A client of a service. It never sends a request twice, as the first may have been counted.

    Args:
        where: The ``url`` of the service, http or https, and what else `Template` reads.
    """

    def __init__(self, where: Mapping[str, Any]) -> None:
        parts = urlsplit(where["url"])
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname or "", parts.port
        self._template = Template(where)
        self._per_thread = _PerThread()

    def allow(self, user_id: str) -> bool:
        """Send a request; return whether it was allowed."""
        return self.take(user_id).allowed is True

    def take(self, user_id: str) -> Answer:
        """Send a request; return whether it was allowed, and the wait in its ``Retry-After``.

        Raises:
            UnexpectedStatus: The status was neither 200 nor 429.
            OSError, http.client.HTTPException: The service cannot be reached, or did not answer.
        """
        connection = self._connection()
        try:
            method, path, headers, body = self._template.request(user_id)
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response.read(_LARGEST_BODY)
        except BaseException:
            self.close()
            raise
        self._per_thread.used_at = true_monotonic()
        if response.will_close or not response.isclosed():  # the latter if there is more of the body
            response.close()
            self.close()
        if response.status not in (200, 429):
            raise UnexpectedStatus(f"expected status 200 or 429, got {response.status} {response.reason}".rstrip())
        return Answer(
            response.status == 200, retry_after(response.getheader("Retry-After"), response.getheader("Date"))
        )

    def close(self) -> None:
        """Close the connection of this thread. The next call opens another one."""
        if self._per_thread.connection is not None:
            self._per_thread.connection.close()
        self._per_thread.connection = None

    def _connection(self) -> http.client.HTTPConnection:
        if self._per_thread.connection is not None and not self._stale(self._per_thread.connection):
            return self._per_thread.connection
        self.close()
        if self._secure:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=_PATIENCE, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=_PATIENCE)
        try:
            connection.connect()  # here, to tell a refused connection from a lost answer
        except ConnectionRefusedError:
            raise ConnectionRefusedError(f"nothing listens at {self._host}:{connection.port}") from None
        self._per_thread.connection = connection
        return connection

    def _stale(self, connection: http.client.HTTPConnection) -> bool:
        # No data are expected on an idle connection: if it is readable, the service has closed it.
        idle = true_monotonic() - self._per_thread.used_at
        return idle > _IDLE or connection.sock is None or bool(select.select([connection.sock], [], [], 0)[0])


class _PerThread(threading.local):
    """The connection of each thread."""

    connection: http.client.HTTPConnection | None = None
    used_at = 0.0


def retry_after(header: str | None, date: str | None = None) -> float | None:
    """Parse ``Retry-After``, whole seconds or a date, and return the seconds from now; None if it is neither.

    Args:
        header: The value of the header.
        date: The ``Date`` of the response, which counts as now.
    """
    if header is None:
        return None
    if header.isascii() and header.isdigit():
        return float(header)
    at, now = _moment(header), _moment(date)
    return None if at is None else max(0.0, at - (true_time_ns() / 1e9 if now is None else now))


def _moment(header: str | None) -> float | None:
    if header is None:
        return None
    try:
        date = parsedate_to_datetime(header)
        return (date if date.tzinfo else date.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
