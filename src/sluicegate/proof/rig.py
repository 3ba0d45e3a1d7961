"""What a case works with: workers with the target in them, a server of its own, and keys that nobody used before."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from sluicegate.proof import servers
from sluicegate.proof.crew import Abilities, Lane, Played, Worker, ask, keep_asking
from sluicegate.proof.faketime import SteppedServer, stepped_server
from sluicegate.proof.history import History
from sluicegate.proof.need import Need
from sluicegate.proof.proxy import Proxy
from sluicegate.proof.target import Target


@dataclass(frozen=True, slots=True)
class Settings:
    """What a grading is told.

    Attributes:
        limit: N, units per window, that the target is held to.
        window: T, seconds.
        deadline: Seconds within which a call has to answer while its store is away.
        python: The interpreter that runs the target.
        memory: MiB that each of its processes may hold.
        patience: Seconds that a command may take beyond what it is known to last, before the target is said to hang.
        server: The kind of the servers that are started: ``valkey`` or ``redis``; None for whichever there is.
        save: The folder that histories are saved in; None: they are not.
    """

    limit: int = 5
    window: float = 1.0
    deadline: float = 1.0
    python: str = sys.executable
    memory: int = 1024
    patience: float = 20.0
    server: str | None = None
    save: Path | None = None

    @property
    def kind(self) -> str:
        """The kind of server to start. Raises `NoServer` where there is none."""
        found = servers.binaries()
        if self.server is None and found:
            return next(iter(found))
        if self.server is None or self.server not in found:
            raise servers.NoServer(f"there is no {self.server or 'Redis'} on this machine: {servers.HOW_TO_GET_ONE}")
        return self.server


@dataclass(frozen=True, slots=True)
class Survey:
    """What a target was found to be, before any case.

    Attributes:
        abilities: What it has beside ``allow``.
        met: The needs that it meets.
        versions: What it runs on.
    """

    abilities: Abilities
    met: frozenset[Need]
    versions: dict[str, str] = field(default_factory=dict)


class Rig:
    """All that one run of a case uses, and that is gone after it.

    Attributes:
        limit: N.
        window: T, seconds.
        deadline: Seconds; see `Settings`.
        survey: What the target is.
        random: Random numbers of the case's own, the same in each run of the kit.
        target: What is graded.
    """

    def __init__(self, case: str, target: Target, survey: Survey, settings: Settings) -> None:
        self.limit, self.window, self.deadline = settings.limit, settings.window, settings.deadline
        self.survey, self.target = survey, target
        self.random = Random(case)  # noqa: S311 - no secret
        self._case, self._settings = case, settings
        self._nonce = os.urandom(4).hex()
        self._keys = self._histories = 0
        for stale in settings.save.glob(f"{self._file}.*.jsonl") if settings.save else ():  # of a run before
            stale.unlink()
        self._server: servers.Server | None = None
        self._stack = ExitStack()

    @property
    def _file(self) -> str:
        return self._case.replace("/", ".")

    def keys(self, number: int) -> list[str]:
        """Name keys that nobody has used."""
        self._keys += number
        return [f"{self._case.rpartition('/')[2]}-{self._nonce}-{n}" for n in range(self._keys - number, self._keys)]

    def key(self) -> str:
        """Name one key that nobody has used."""
        return self.keys(1)[0]

    @property
    def server(self) -> servers.Server:
        """The Redis of this case, started when first asked for."""
        if self._server is None:
            self._server = self._stack.enter_context(servers.running(self._settings.kind))
        return self._server

    def stepped(self) -> SteppedServer:
        """Make the Redis of this case one whose clock can be stepped."""
        assert self._server is None
        stepped = self._stack.enter_context(stepped_server())
        self._server = stepped.server
        return stepped

    def proxy(self) -> Proxy:
        """Put a proxy before the Redis of this case."""
        return self._stack.enter_context(Proxy(self.server.port))

    def worker(
        self,
        *,
        limit: int | None = None,
        window: float | None = None,
        clock: str = "real",
        wall: float = 0.0,
        redis_url: str | None = None,
        trace: bool = False,
        patience: float | None = None,
    ) -> Worker:
        """Start a worker and load the target. What is not given is what the grading was told.

        Raises:
            TargetFailed: The target could not be loaded.
        """
        worker = self._stack.enter_context(
            Worker(
                self.target,
                python=self._settings.python,
                memory=self._settings.memory,
                patience=patience or self._settings.patience,
            )
        )
        if self.survey.abilities.takes_redis and redis_url is None:
            redis_url = self.server.url
        worker.load(
            limit or self.limit,
            window or self.window,
            redis_url=redis_url,
            clock=clock,
            wall=wall,
            trace=trace,
            asynchronous=self.survey.abilities.asynchronous,
        )
        return worker

    def pressing(self, keys: Sequence[str], lasts: float) -> Lane:
        """Return a lane that fills each key and goes on asking for all of them, for ``lasts`` seconds."""
        fill = [ask(0, key, self.limit) for key in keys]
        return [*fill, keep_asking(0, lasts, *keys, pause=max(0.003, self.window / 200))]

    def history(
        self, *played: Played, limit: int | None = None, window: float | None = None, save: bool = True
    ) -> History:
        """Put together what workers brought, in the order of time.

        It is saved where that was asked for, if it is to be held to the limit by whoever judges it again: not where
        the store went away or its clock was stepped (``save=False``).
        """
        records = sorted((record for each in played for record in each.records), key=lambda record: record.start)
        about = {"target": self.target.name, "case": self._case}
        history = History(limit or self.limit, window or self.window, records, about)
        self._histories += 1
        if self._settings.save is not None and save:
            history.save(self._settings.save / f"{self._file}.{self._histories}.jsonl")
        return history

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, the servers and the proxies. From another thread, too: the case then ends in an error."""
        self._stack.close()
