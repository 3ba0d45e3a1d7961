"""Limiters that harm the process that runs them. Each must be reported, and must not affect the other cases."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import sys
import threading
import time


class Hangs:
    """Hangs."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> bool:
        threading.Event().wait()
        return True


class Spins:
    """Hangs, and keeps a processor busy."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> bool:
        for _ in itertools.count():
            pass
        return True


class HangsAtInit:
    """Cannot be constructed: its constructor hangs."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        threading.Event().wait()

    def allow(self, user_id: str) -> bool:
        return True


class RaisesAtInit:
    """Cannot be constructed: its constructor raises."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        raise RuntimeError("no such table: limits")

    def allow(self, user_id: str) -> bool:
        return True


class OneArgument:
    """Cannot be constructed: its constructor takes no window."""

    def __init__(self, limit: int) -> None: ...

    def allow(self, user_id: str) -> bool:
        return True


class NoAllow:
    """Has no methods."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...


class Exits:
    """Ends its process at once, with status 0."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> bool:
        os._exit(0)


class ExitsPolitely:
    """Raises SystemExit, which is not an Exception."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> bool:
        sys.exit(0)


class Segfaults:
    """Reads from the address 0."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> bool:
        return bool(ctypes.string_at(0))


class Raises:
    """Raises with a message that would move the cursor, hide the text after it, or become a script in a page."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> bool:
        raise ValueError("\x1b[2J\x1b]0;passed\x07<script>alert('naïve')</script>\u202e\x00\udcff]]> 日本語" * 100)


class RaisesUnprintable:
    """Raises an error whose message cannot be read."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> bool:
        class Unprintable(Exception):
            def __str__(self) -> str:
                raise self

        raise Unprintable


class Recurses:
    """Calls itself until Python gives up."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> bool:
        return self.allow(user_id)


class Prints:
    """Floods stdout and stderr without end."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        threading.Thread(target=self._print, daemon=True).start()

    def allow(self, user_id: str) -> bool:
        return True

    def _print(self) -> None:
        while True:
            print("x" * 65536)
            print("\x1b[31m{}\n" * 1024, file=sys.stderr)


class Allocates:
    """Allocates memory until there is none left."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._kept: list[bytearray] = []

    def allow(self, user_id: str) -> bool:
        while True:
            self._kept.append(bytearray(b"x") * 16_000_000)


class AnswersText:
    """Returns a string, which is true for a denial as well."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> str:
        return "denied"


class AnswersNothing:
    """Always returns None."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> None: ...


class AnswersRaiser:
    """Returns an object that is neither true nor false and cannot be printed."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> object:
        class Neither:
            def __bool__(self) -> bool:
                raise TypeError("neither")

            def __repr__(self) -> str:
                raise TypeError("not to be shown")

        return Neither()


class LeavesThread:
    """Starts a thread that never ends and that keeps its process alive."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> bool:
        threading.Thread(target=threading.Event().wait).start()
        return True


class LeavesChild:
    """Starts a process that outlives it and keeps everything open that it inherited."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        if os.fork() == 0:
            time.sleep(120)
            os._exit(0)

    def allow(self, user_id: str) -> bool:
        return True


class BreaksTime:
    """Breaks the clocks for everything in its process."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        time.sleep = None
        time.monotonic = lambda: "noon"
        del time.time

    def allow(self, user_id: str) -> bool:
        return True


class WritesToPipes:
    """Writes invalid data, and text that looks like replies, to every file that its process has open."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> bool:
        for descriptor in range(3, 64):
            with contextlib.suppress(OSError):
                os.write(descriptor, b'\x00\xff{"n": 1, "records": []}\n[' + b"9" * 1000 + b"]\nnull\n")
        return True


class ClosesPipes:
    """Closes every file that its process has open."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> bool:
        os.closerange(0, 64)
        return True
