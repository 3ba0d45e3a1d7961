"""`Proxy`: a TCP proxy on loopback that delays, holds, cuts and counts traffic. It runs its event loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Self, TypeVar

_Result = TypeVar("_Result")


class Proxy:
    """A proxy in front of a server. Its attributes may be set at any time, from any thread.

    Attributes:
        sent: All bytes that clients have sent so far.
        delay: Seconds by which each piece of a reply arrives late, as over a long line; the pieces do not queue up.
        cut_reply: How many replies to cut: the server gets the request, the reply is dropped, the connection closed.
        hold: While true, no reply passes.
        replies: Pieces of replies received from the server so far; the number of round trips of a client that waits
            for each reply.
        owing: Seconds for which the server has owed a reply so far, on any connection.
        port: The port it listens on, once entered.
    """

    def __init__(self, port: int) -> None:
        self.sent = b""
        self.delay = 0.0
        self.cut_reply = 0
        self.hold = False
        self.replies = 0
        self.owing = 0.0
        self.port = 0
        self._upstream = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._owed: set[asyncio.StreamWriter] = set()  # those of the connections that wait for a reply
        self._owed_since = 0.0

    @property
    def url(self) -> str:
        """The URL of the Redis server behind the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def drop(self) -> None:
        """Close all connections, as a server does when it restarts."""
        self._call(self._drop())

    def _call(self, coroutine: Coroutine[object, object, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _drop(self) -> None:
        for writer in list(self._writers):
            writer.close()
        await asyncio.sleep(0.05)

    async def _stop(self) -> None:
        self._server.close()
        await self._drop()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # for what they have closed

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = {writer}
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            mine.add(up_writer)
            self._writers |= mine
            await asyncio.gather(
                self._up(reader, up_writer), self._down(up_reader, writer, up_writer), return_exceptions=True
            )
            self._settle(up_writer)
        finally:  # also if it is cancelled: a client may come while the proxy ends
            for each in mine:
                each.close()
            self._writers -= mine

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.sent += data
            if not self._owed:
                self._owed_since = self._loop.time()
            self._owed.add(writer)
            writer.write(data)
        writer.close()

    def _settle(self, upstream: asyncio.StreamWriter) -> None:
        if self._owed == {upstream}:
            self.owing += self._loop.time() - self._owed_since
        self._owed.discard(upstream)

    async def _down(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: asyncio.StreamWriter
    ) -> None:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        passing = asyncio.create_task(self._pass(pieces, writer))
        while data := await reader.read(65536):
            self.replies += 1
            self._settle(upstream)
            pieces.put_nowait((self._loop.time() + self.delay, data))
        pieces.put_nowait((0, b""))
        await passing

    async def _pass(self, pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while (piece := await pieces.get())[1]:
            due, data = piece
            await asyncio.sleep(due - self._loop.time())
            while self.hold:  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(0.01)
            if self.cut_reply:
                self.cut_reply -= 1
                break
            writer.write(data)
        writer.close()
