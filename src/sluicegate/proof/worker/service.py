"""A running service as a limiter: 200 is allowed, 429 is denied, anything else is an error."""

import datetime as dt
import http.client
import select
import ssl
import threading
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlsplit

from .answers import Told
from .clocks import true_monotonic, true_time_ns

_PATIENCE = 10.0  # seconds for the service to do anything at all
_IDLE = 1.0  # seconds after which a connection is made anew: the service may be closing the old one at this moment
_LARGEST_BODY = 1 << 20
_URL_SAFE = "/?:@!$&'()*+,;=%~{}[]"


class UnexpectedStatus(Exception):
    """The service answered neither 200 nor 429. A redirect is none of them: it is not followed."""


class Service:
    """Asks a service with GET. No request is ever sent twice: the first may have been counted.

    Args:
        url: Its URL, http or https, with ``{key}`` where the key goes.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname or "", parts.port
        self._path = quote(f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path, safe=_URL_SAFE)
        self._mine = _Mine()

    def allow(self, user_id: str) -> bool:
        """Ask, for the answer alone."""
        return self.take(user_id).allowed is True

    def take(self, user_id: str) -> Told:
        """Ask once.

        Raises:
            UnexpectedStatus: The answer is none.
            OSError, http.client.HTTPException: There was no answer, or nobody to ask.
        """
        connection = self._connection()
        try:
            path = self._path.replace("{key}", quote(user_id, safe=""))
            connection.request("GET", path, headers={"User-Agent": "sluicegate-grade"})
            response = connection.getresponse()
            response.read(_LARGEST_BODY)
        except BaseException:
            self.close()
            raise
        self._mine.used_at = true_monotonic()
        if response.will_close or not response.isclosed():  # the latter: there is more of the body
            response.close()
            self.close()
        if response.status not in (200, 429):
            raise UnexpectedStatus(f"expected status 200 or 429, got {response.status} {response.reason}".rstrip())
        return Told(response.status == 200, retry_after(response.getheader("Retry-After"), response.getheader("Date")))

    def close(self) -> None:
        """Close the connection of this thread. The next call makes another one."""
        if self._mine.connection is not None:
            self._mine.connection.close()
        self._mine.connection = None

    def _connection(self) -> http.client.HTTPConnection:
        if self._mine.connection is not None and not self._stale(self._mine.connection):
            return self._mine.connection
        self.close()
        if self._secure:
            made: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=_PATIENCE, context=ssl.create_default_context()
            )
        else:
            made = http.client.HTTPConnection(self._host, self._port, timeout=_PATIENCE)
        try:
            made.connect()  # so that a refusal is told from a lost answer
        except ConnectionRefusedError:
            raise ConnectionRefusedError(f"nothing listens at {self._host}:{made.port}") from None
        self._mine.connection = made
        return made

    def _stale(self, connection: http.client.HTTPConnection) -> bool:
        # Nothing is due on an idle connection: what can be read there is its end.
        idle = true_monotonic() - self._mine.used_at
        return idle > _IDLE or connection.sock is None or bool(select.select([connection.sock], [], [], 0)[0])


class _Mine(threading.local):
    """What each thread has of its own."""

    connection: http.client.HTTPConnection | None = None
    used_at = 0.0


def retry_after(header: str | None, date: str | None = None) -> float | None:
    """Read a Retry-After in either of its forms: seconds from now; None where it is neither.

    Args:
        header: What it says.
        date: What the response says is now, in its Date.
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
