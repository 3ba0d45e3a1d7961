"""A proxy that also cuts a command or the middle of a reply, adds bytes, and reads the commands that it passed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from sluicegate.proof.proxy import Proxy


class Cuts(Proxy):
    """A proxy with more faults.

    Attributes:
        cut_command: How many commands are still to be cut: the server never gets it, and the connection is closed.
        cut_middle: How many replies are still to be cut in their middle.
        deaf: While true nothing is read from clients, as from a host that is overwhelmed.
        mute: How many connections are still to be accepted and never served, as by a server that hangs.
        before: Bytes that come before the next reply, in one piece with it.
        after: Bytes that come after the next reply, in one piece with it.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.cut_command = 0
        self.cut_middle = 0
        self.deaf = False
        self.mute = 0
        self.before = self.after = b""

    @property
    def scripts(self) -> list[list[bytes]]:
        """The script calls that were sent so far, each as its words."""
        return [words for words in commands(self.sent) if words[0] in (b"EVALSHA", b"EVAL")]

    def recover(self) -> None:
        """Let all pass again."""
        self.cut_command = self.cut_middle = self.cut_reply = 0
        self.hold = self.deaf = False

    def __exit__(self, *error: object) -> None:
        self.recover()
        super().__exit__(*error)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mute:
            self.mute -= 1
            self._writers.add(writer)
            await reader.read()  # until the client or the test ends it
            self._writers.discard(writer)
            writer.close()
        else:
            await super()._serve(reader, writer)

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            while self.deaf:
                await asyncio.sleep(0.005)
            data = await reader.read(65536)
            if not data:
                break
            if self.cut_command and b"EVAL" in data:
                self.cut_command -= 1
                break
            self.sent += data
            writer.write(data)
        writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.replies += 1
            if self.delay:
                await asyncio.sleep(self.delay)
            while self.hold:
                await asyncio.sleep(0.005)
            if self.cut_reply:
                self.cut_reply -= 1
                break
            if self.cut_middle:
                self.cut_middle -= 1
                writer.write(data[: len(data) // 2])
                break
            data, self.before, self.after = self.before + data + self.after, b"", b""
            writer.write(data)
        writer.close()


def commands(sent: bytes) -> Iterator[list[bytes]]:
    """Read what clients sent, each command as its words. What is not whole is left out, as where it was cut."""
    at = 0
    while True:
        words: list[bytes] = []
        try:
            at = end = sent.index(b"*", at)
            end = sent.index(b"\r\n", at)
            for _ in range(int(sent[at + 1 : end])):
                start = end + 2
                end = sent.index(b"\r\n", start)
                length = int(sent[start + 1 : end])
                words.append(sent[end + 2 : end + 2 + length])
                end += 2 + length
        except ValueError:
            return
        if end + 2 > len(sent):
            return
        at = end + 2
        yield words
