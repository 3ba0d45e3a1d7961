"""`Environment`: the workers, the server and the fresh keys of one run of a case; `GradeSettings`; `Survey`."""

from __future__ import annotations

import math
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
from sluicegate.proof.faketime import SteppedServer, stepped_server
from sluicegate.proof.history import History
from sluicegate.proof.proxy import Proxy
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.served import Served
from sluicegate.proof.target import Target
from sluicegate.proof.workers import Abilities, Client, ScenarioResult, Worker, call, keep_calling


@dataclass(frozen=True, slots=True)
class GradeSettings:
    """The settings of a grading.

    Attributes:
        limit: N, the units per window that the target is held to.
        window: T, seconds.
        deadline: Seconds within which a call must answer while its store is down.
        python: The interpreter that runs the target.
        memory: MiB that each of its processes may use.
        patience: Seconds a command may take beyond its known duration before the target is reported as hanging.
        slack: The most seconds of their own that a scenario's calls may take: less for a target that has hung.
        server: The kind of server to start, ``valkey`` or ``redis``; None for whichever is installed.
        save: The folder to save histories in; None to save none.
    """

    limit: int = 5
    window: float = 1.0
    deadline: float = 1.0
    python: str = sys.executable
    memory: int = 1024
    patience: float = 20.0
    slack: float = math.inf
    server: str | None = None
    save: Path | None = None

    @property
    def kind(self) -> str:
        """The kind of server to start. Raises `NoServer` if none is installed."""
        found = servers.binaries()
        if self.server is None and found:
            return next(iter(found))
        if self.server is None or self.server not in found:
            raise servers.NoServer(f"{self.server or 'Redis'} is not installed: {servers.HOW_TO_GET_ONE}")
        return self.server


@dataclass(frozen=True, slots=True)
class Survey:
    """What the kit found out about a target before running any case.

    Attributes:
        abilities: What it offers beside ``allow``.
        met: The requirements it meets.
        versions: The software it runs on, by name.
    """

    abilities: Abilities
    met: frozenset[Requirement]
    versions: dict[str, str] = field(default_factory=dict)


class Environment:
    """Everything that one run of a case uses. Closing it ends its workers, servers and proxies.

    Attributes:
        limit: N.
        window: T, seconds.
        deadline: Seconds within which a call must answer while its store is down.
        survey: What is known about the target.
        random: Random numbers for this case, the same in each run of the kit.
        target: The target being graded.
    """

    def __init__(self, case: str, target: Target, survey: Survey, settings: GradeSettings) -> None:
        self.limit, self.window, self.deadline = settings.limit, settings.window, settings.deadline
        self.survey, self.target = survey, target
        self.random = Random(case)  # noqa: S311 - no secret
        self._case, self._settings = case, settings
        self._nonce = os.urandom(4).hex()
        self._keys = self._histories = 0
        for stale in settings.save.glob(f"{self._file}.*.jsonl") if settings.save else ():  # from an earlier run
            stale.unlink()
        self._server: servers.Server | None = None
        self._served: dict[tuple[int, int, float], Served] = {}
        self._stack = ExitStack()

    @property
    def _file(self) -> str:
        return self._case.replace("/", ".")

    def keys(self, number: int) -> list[str]:
        """Return keys that no one has used."""
        self._keys += number
        return [f"{self._case.rpartition('/')[2]}-{self._nonce}-{n}" for n in range(self._keys - number, self._keys)]

    def key(self) -> str:
        """Return one key that no one has used."""
        return self.keys(1)[0]

    @property
    def server(self) -> servers.Server:
        """The Redis server of this case, started on first use."""
        if self._server is None:
            self._server = self._stack.enter_context(servers.running(self._settings.kind))
        return self._server

    def stepped(self) -> SteppedServer:
        """Start the Redis server of this case as one whose clock can be stepped."""
        assert self._server is None
        stepped = self._stack.enter_context(stepped_server())
        self._server = stepped.server
        return stepped

    def proxy(self) -> Proxy:
        """Start a proxy in front of the Redis server of this case."""
        return self._stack.enter_context(Proxy(self.server.port))

    def worker(
        self,
        *,
        limit: int | None = None,
        window: float | None = None,
        clock: str = "real",
        wall: float = 0.0,
        monotonic: float = 0.0,
        redis_url: str | None = None,
        trace: bool = False,
        patience: float | None = None,
    ) -> Worker:
        """Start a worker and load the target in it. Arguments left out come from the settings of the grading.

        If the kit starts the service, the worker calls an instance of its own, or the only one if they do not share a
        store. A service whose limit and window the kit cannot choose has its own.

        Raises:
            TargetFailed: The target could not be loaded.
            DidNotStart: The service did not start.
        """
        limit, window = limit or self.limit, window or self.window
        if self.survey.abilities.takes_redis and redis_url is None:
            redis_url = self.server.url
        worker = self._stack.enter_context(
            Worker(
                self._instance(limit, window, redis_url) if self.target.serve else self.target,
                python=self._settings.python,
                memory=self._settings.memory,
                patience=patience or self._settings.patience,
                slack=self._settings.slack,
            )
        )
        worker.load(
            limit,
            window,
            redis_url=redis_url,
            clock=clock,
            wall=wall,
            monotonic=monotonic,
            trace=trace,
            asynchronous=self.survey.abilities.asynchronous,
        )
        return worker

    def _instance(self, limit: int, window: float, redis_url: str | None) -> Target:
        what = (limit, window) if self.target.takes_limit else (0, 0.0)
        which = (len(self._served) if self.target.takes_redis else 0, *what)
        if which not in self._served:
            self._served[which] = self._stack.enter_context(Served(self.target, limit, window, redis_url))
        return self._served[which].target

    @property
    def service_output(self) -> str:
        """The last of what the services that the kit has started for this case printed."""
        return "".join(each.output for each in self._served.values())

    def busy_client(self, keys: Sequence[str], lasts: float) -> Client:
        """Return a client that fills each key and then keeps calling for all of them, for ``lasts`` seconds."""
        fill = [call(0, key, self.limit) for key in keys]
        return [*fill, keep_calling(0, lasts, *keys, pause=max(0.003, self.window / 200))]

    def history(
        self, *results: ScenarioResult, limit: int | None = None, window: float | None = None, save: bool = True
    ) -> History:
        """Merge the records of several scenarios into one history, in the order of time, and save it if asked to.

        Pass ``save=False`` when the store was down or its clock was stepped: a saved history is judged again by its
        limit, and such a history cannot be held to it.
        """
        records = sorted((record for each in results for record in each.records), key=lambda record: record.start)
        about = {"target": self.target.name, "case": self._case}
        remote = self.survey.abilities.takes_redis or self.target.is_service
        history = History(limit or self.limit, window or self.window, records, about, remote)
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
        """End the workers, the servers and the proxies. From another thread, this ends the running case in an error."""
        self._stack.close()
