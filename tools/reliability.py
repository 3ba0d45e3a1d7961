"""Cause every fault of docs/reliability.md on real servers, watch a fleet of four processes, and write the page.

    make faults                                          all of them; some seven minutes, on an otherwise idle machine
    .venv/bin/python tools/reliability.py --only frozen       one of them, or those whose names contain the text
    .venv/bin/python tools/reliability.py --json out.json     the measurements alone, no page
    make faults FAULTS="--soak 600"                      random faults for ten minutes; --seed replays them

Two of the four processes call from 64 tasks each, two from 16 threads each. All use the same keys and one limit. What
is counted in any window is judged as the proof kit judges: only what was certainly allowed in less than a window.

Exit code 1 if a fault led to an answer of the wrong kind, to a caller that waited too long, or to more than the bound.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import click
import redis
import trustme
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import servers  # noqa: E402
from faults.cuts import Cuts  # noqa: E402
from sluicegate.proof import faketime  # noqa: E402
from sluicegate.proof.history import Record  # noqa: E402
from sluicegate.proof.judge import spans  # noqa: E402
from sluicegate.proof.proxy import Proxy  # noqa: E402

console = Console()

LIMIT, WINDOW, KEYS = 40, 2.0, 4
DEADLINE = 0.1
SETTLE, CLOSE = 3.0, 4.0  # seconds before the fault, and after it
MARGINS = {"tasks": 0.02, "threads": 0.05}
"""Seconds by which a caller may be later than its deadline, beyond what the machine held up any process meanwhile."""


@dataclass
class Stage:
    """What a fault acts on: a server, a proxy to it for each instance where one is needed, and what was opened."""

    server: servers.Server
    opened: ExitStack
    proxies: list[Proxy] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def url(self, number: int) -> str:
        """Return the URL that an instance uses."""
        port = self.proxies[number].port if self.proxies else self.server.port
        return str(self.options.get("url", "redis://127.0.0.1:{port}/0")).format(port=port)


Act = Callable[[Stage], None]


@dataclass(frozen=True)
class Fault:
    """A fault: how to begin and to end it, and how long it lasts.

    Attributes:
        bound: The most that any window may hold, in limits.
        inside: The same for windows that lie inside the fault, without its first window.
    """

    name: str
    begin: Act
    end: Act
    bound: float
    seconds: float = 5.0
    setup: Callable[[ExitStack], Stage] | None = None
    inside: float = 1.0


# What the faults do


def stage(opened: ExitStack, *words: str, kind: str = "valkey", **options: Any) -> Stage:
    return Stage(opened.enter_context(servers.running(kind, *words)), opened, options=options)


def proxied(opened: ExitStack) -> Stage:
    made = stage(opened)
    return behind_proxies(made, made.server.port)


def distant(opened: ExitStack) -> Stage:
    """Behind proxies that can delay each reply by itself, as a long way does."""
    made = stage(opened)
    return behind_proxies(made, made.server.port, Proxy)


def behind_proxies(made: Stage, port: int, kind: type[Proxy] = Cuts) -> Stage:
    made.proxies = [made.opened.enter_context(kind(port)) for _ in range(4)]
    return made


def command(*words: Any) -> Act:
    return lambda stage: stage.server.client.execute_command(*words)


def proxies(which: slice = slice(None), **values: Any) -> Act:
    def act(stage: Stage) -> None:
        for proxy in stage.proxies[which]:
            for name, value in values.items():
                setattr(proxy, name, value)

    return act


def drop(stage: Stage) -> None:
    for proxy in stage.proxies:
        proxy.drop()


def kill(stage: Stage) -> None:
    stage.server.kill()


def launch(stage: Stage) -> None:
    stage.server.launch()


def nothing(stage: Stage) -> None:
    """Do nothing."""


def both(*acts: Act) -> Act:
    return lambda stage: [act(stage) for act in acts]  # type: ignore[return-value, func-returns-value]


def again_and_again(act: Act, every: float, seconds: float) -> Act:
    """Act in a thread, again and again, for so many seconds."""

    def begin(stage: Stage) -> None:
        def work() -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                act(stage)
                time.sleep(every)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        stage.opened.callback(thread.join)

    return begin


def flap(stage: Stage) -> None:
    for proxy in stage.proxies:
        proxy.hold = True
    time.sleep(1)
    for proxy in stage.proxies:
        proxy.hold = False


def with_password(opened: ExitStack) -> Stage:
    made = stage(opened, url="redis://ann:right@127.0.0.1:{port}/0")
    made.server.client.execute_command("ACL", "SETUSER", "ann", "on", ">right", "~*", "+@all")
    return made


def new_password(stage: Stage) -> None:
    stage.server.client.execute_command("ACL", "SETUSER", "ann", "resetpass", ">other")
    stage.server.client.execute_command("CLIENT", "KILL", "USER", "ann")


def old_password(stage: Stage) -> None:
    stage.server.client.execute_command("ACL", "SETUSER", "ann", "resetpass", ">right")


def over_tls(opened: ExitStack) -> Stage:
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
    authority, own, port = folder / "authority", folder / "own", servers.free_port()
    signing = trustme.CA()
    signing.cert_pem.write_to_path(str(authority))
    signing.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(own))
    files = {"port": port, "auth-clients": "no", "cert-file": own, "key-file": own, "ca-cert-file": authority}
    words = [word for name, value in files.items() for word in (f"--tls-{name}", str(value))]
    server = opened.enter_context(servers.running("redis", *words))
    url = f"rediss://127.0.0.1:{{port}}/0?ssl_ca_certs={authority}"
    return behind_proxies(Stage(server, opened, options={"url": url}), port)


def break_tls(stage: Stage) -> None:
    for proxy in stage.proxies:
        proxy._upstream = stage.server.port  # the port that does not speak TLS
        proxy.drop()


def restore_tls(stage: Stage) -> None:
    port = int(stage.server.client.config_get("tls-port")["tls-port"])
    for proxy in stage.proxies:
        proxy._upstream = port
        proxy.drop()


def of_cluster(opened: ExitStack) -> Stage:
    made = stage(opened, "--cluster-enabled", "yes", prefix="{faults}:")
    add_slots(made)
    return made


def add_slots(stage: Stage) -> None:
    stage.server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    while b"cluster_state:ok" not in stage.server.client.execute_command("CLUSTER", "INFO"):
        time.sleep(0.05)


def busy_script(stage: Stage) -> None:
    stage.server.client.config_set("busy-reply-threshold", 100)
    other = redis.Redis.from_url(stage.server.url, socket_timeout=60)

    def run() -> None:
        with contextlib.suppress(redis.RedisError):
            other.eval("while true do end", 0)

    threading.Thread(target=run, daemon=True).start()


def kill_script(stage: Stage) -> None:
    stage.server.client.execute_command("SCRIPT", "KILL")


def with_much_data(opened: ExitStack) -> Stage:
    made = stage(opened, "--key-load-delay", "50", "--loading-process-events-interval-bytes", "1024")
    made.server.client.config_set("rdbcompression", "no")
    for n in range(40):
        made.server.client.eval("for i = 1, 2000 do redis.call('SET', KEYS[1] .. i, i) end", 1, f"k{n}:")
    return made


def restart_loading(stage: Stage) -> None:
    stage.server.client.save()
    stage.server.kill()
    with Path(stage.server.directory, "log").open("ab") as log:
        stage.server.process = subprocess.Popen(stage.server._command, stdout=log, stderr=subprocess.STDOUT)


def wait_until_loaded(stage: Stage) -> None:
    while True:
        with contextlib.suppress(redis.RedisError):
            if stage.server.client.ping() and not stage.server.client.info("persistence")["loading"]:
                return
        time.sleep(0.05)


def with_sentinel(opened: ExitStack) -> Stage:
    primary = opened.enter_context(servers.running("redis"))
    replica = opened.enter_context(servers.running("redis", "--replicaof", "127.0.0.1", str(primary.port)))
    folder, port = Path(opened.enter_context(tempfile.TemporaryDirectory())), servers.free_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor primary 127.0.0.1 {primary.port} 1\n"
        f"sentinel down-after-milliseconds primary 500\nsentinel failover-timeout primary 5000\n"
    )
    process = opened.enter_context(
        subprocess.Popen(["redis-server", str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    )
    opened.callback(process.kill)
    while replica.client.info("replication")["master_link_status"] != "up":
        time.sleep(0.05)
    sentinel = opened.enter_context(redis.Redis(port=port))
    while True:
        with contextlib.suppress(redis.RedisError):
            if sentinel.execute_command("SENTINEL", "REPLICAS", "primary"):
                break
        time.sleep(0.1)
    return Stage(primary, opened, options={"sentinel": port})


def stepped(opened: ExitStack) -> Stage:
    made = opened.enter_context(faketime.stepped_server())
    return Stage(made.server, opened, options={"stepped": made})


def step(seconds: float) -> Act:
    return lambda stage: stage.options["stepped"].step(seconds)


def spoil(stage: Stage) -> None:
    client = stage.server.client
    for key in client.scan_iter("sluicegate:*"):
        client.delete(key)
        client.set(key, "something else")


def unspoil(stage: Stage) -> None:
    client = stage.server.client
    for key in client.scan_iter("sluicegate:*"):
        client.delete(key)


HALF = slice(0, 4, 2)  # one process with tasks and one with threads

FAULTS = [
    Fault("nothing at all", nothing, nothing, 1),
    Fault("killed, and started anew without its data", kill, launch, 2),
    Fault("restarted at once without its data", both(kill, launch), nothing, 2, 1),
    Fault("frozen (SIGSTOP)", lambda stage: stage.server.freeze(), lambda stage: stage.server.thaw(), 2),
    Fault("slow: 50 ms a reply", proxies(delay=0.05), proxies(delay=0.0), 2, setup=distant),
    Fault("slow: 200 ms a reply", proxies(delay=0.2), proxies(delay=0.0), 2, setup=distant),
    Fault(
        "replies cut, five a second", again_and_again(proxies(cut_reply=1), 0.2, 5), nothing, 2, setup=proxied, inside=2
    ),
    Fault(
        "replies cut in their middle",
        again_and_again(proxies(cut_middle=1), 0.2, 5),
        nothing,
        2,
        setup=proxied,
        inside=2,
    ),
    Fault("connections dropped, two a second", again_and_again(drop, 0.5, 5), nothing, 2, setup=proxied, inside=2),
    Fault(
        "black hole: nothing is read, nothing answered",
        proxies(hold=True, deaf=True),
        proxies(hold=False, deaf=False),
        2,
        setup=proxied,
    ),
    Fault("TLS broken", break_tls, restore_tls, 2, setup=over_tls),
    Fault("password changed", new_password, old_password, 2, setup=with_password),
    Fault("memory full (OOM)", command("CONFIG", "SET", "maxmemory", 1), command("CONFIG", "SET", "maxmemory", 0), 2),
    Fault("became a replica (READONLY)", command("REPLICAOF", "127.0.0.1", "1"), command("REPLICAOF", "NO", "ONE"), 2),
    Fault("loads its data (LOADING)", restart_loading, wait_until_loaded, 2, 1, setup=with_much_data),
    Fault("a script blocks it (BUSY)", busy_script, kill_script, 2),
    Fault("scripts forgotten (NOSCRIPT)", again_and_again(command("SCRIPT", "FLUSH"), 0.2, 5), nothing, 1),
    Fault(
        "cluster without its slots (CLUSTERDOWN)",
        command("CLUSTER", "DELSLOTSRANGE", 0, 16383),
        add_slots,
        2,
        setup=of_cluster,
    ),
    Fault("Sentinel fails over", kill, nothing, 3, 6, setup=with_sentinel),
    Fault("clock 30 s forward", step(30), nothing, 2, 4, setup=stepped),
    Fault("clock 30 s back", step(-30), nothing, 1, 4, setup=stepped),
    Fault("all counters of another type", spoil, unspoil, 3),
    Fault(
        "half of the fleet cut off", proxies(HALF, hold=True), proxies(HALF, hold=False), 2, setup=proxied, inside=1.5
    ),
    Fault("flaps every second", again_and_again(flap, 1, 7), nothing, 2, 8, setup=proxied, inside=2),
]


SOAKED = [
    Fault("frozen", lambda stage: stage.server.freeze(), lambda stage: stage.server.thaw(), 2),
    Fault("slow, 50 ms", proxies(delay=0.05), proxies(delay=0.0), 2),
    Fault("slow, 200 ms", proxies(delay=0.2), proxies(delay=0.0), 2),
    Fault("a reply cut", proxies(cut_reply=1), nothing, 2),
    Fault("a command cut", proxies(cut_command=1), nothing, 2),
    Fault("connections dropped", drop, nothing, 2),
    Fault("black hole", proxies(hold=True, deaf=True), proxies(hold=False, deaf=False), 2),
    Fault("half cut off", proxies(HALF, hold=True), proxies(HALF, hold=False), 2),
    Fault("memory full", command("CONFIG", "SET", "maxmemory", 1), command("CONFIG", "SET", "maxmemory", 0), 2),
    Fault("scripts forgotten", command("SCRIPT", "FLUSH"), nothing, 2),
]
"""Faults that lose no counter, so that the bound is 2 N however often they come."""


# Watching


class Control:
    """Notes when the machine let this process wait: a thread that sleeps for a millisecond at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CONTROL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def stalls(self) -> list[tuple[float, float]]:
        """Return when it was held up, and until when, and end it."""
        out, _ = self._process.communicate("")
        return [tuple(each) for each in json.loads(out)]  # type: ignore[misc]


_CONTROL = """
import json, sys, threading, time
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
stalls, last = [], time.monotonic()
while not ended.is_set():
    time.sleep(0.001)
    now = time.monotonic()
    if now - last > 0.003:
        stalls.append((last, now))
    last = now
print(json.dumps(stalls))
"""


@dataclass
class Seen:
    """What a fault did to the fleet."""

    fault: str
    bound: float
    inside_bound: float
    waits: dict[str, float]  # by form: the longest, seconds
    excess: dict[str, float]  # by form: seconds beyond the deadline and what the machine held up
    loop: float  # the longest that an event loop was held up, less what the machine held up
    errors: dict[str, int]
    answers: dict[str, int]  # by source, while the fault lasted
    most: float  # in any window, in limits
    inside: float | None  # in a window that lies inside the fault but for its first window, in limits
    recovered: float | None  # seconds after the end of the fault until every instance was answered by the store
    calls: int
    machine: float  # the longest that the machine held up another process

    @property
    def wrong(self) -> list[str]:
        found = [f"{name} was raised {count} times" for name, count in self.errors.items()]
        found += [
            f"a caller in {form} waited {seconds * 1000:.0f} ms beyond its deadline"
            for form, seconds in self.excess.items()
            if seconds > MARGINS[form]
        ]
        if self.loop > 0.02:
            found.append(f"an event loop was held up for {self.loop * 1000:.0f} ms")
        if self.most > self.bound:
            found.append(f"a window held {self.most:.2f} limits, the bound is {self.bound:g}")
        if self.inside is not None and self.inside > self.inside_bound:
            found.append(f"inside the fault a window held {self.inside:.2f} limits, the bound is {self.inside_bound:g}")
        if self.recovered is None or self.recovered > 2:
            found.append(f"recovered after {self.recovered} s")
        return found


def run(fault: Fault) -> Seen:
    """Cause a fault, and return what was seen of it."""
    with ExitStack() as opened:
        on = (fault.setup or stage)(opened)
        control, workers = Control(), [start(on, n, form) for n, form in enumerate(("tasks", "threads") * 2)]
        for worker in workers:
            # It is ready then: a slow start must not be part of what it knows of its fleet.
            worker.stdout.readline()  # type: ignore[union-attr]
        time.sleep(SETTLE)
        began_at = time.monotonic()
        fault.begin(on)
        time.sleep(max(fault.seconds - (time.monotonic() - began_at), 0))
        lasted_until = time.monotonic()  # while a fault is being ended, some are well again
        fault.end(on)
        ended_at = time.monotonic()
        time.sleep(CLOSE)
        closed_at = time.monotonic()
        results = [json.loads(worker.communicate("")[0]) for worker in workers]
        for result in results:  # while one writes its answers down, the others are held up
            result["answers"] = [answer for answer in result["answers"] if answer[0] < closed_at]
        return judge(fault, results, (began_at, lasted_until), ended_at, control.stalls())


def soak(seconds: float, seed: int) -> Seen:
    """Cause random faults of random lengths for so long, and return what was seen. The seed replays them."""
    random = Random(seed)

    def begin(stage: Stage) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fault = random.choice(SOAKED)
            console.log(fault.name)
            fault.begin(stage)
            time.sleep(random.uniform(0.05, 3))
            fault.end(stage)
            time.sleep(random.uniform(0.1, 3))

    return run(Fault(f"random faults, seed {seed}", begin, nothing, 2, 0, setup=proxied, inside=2))


def start(on: Stage, number: int, form: str) -> subprocess.Popen[str]:
    settings: dict[str, Any] = {
        "form": form,
        "callers": 64 if form == "tasks" else 16,
        "pause": 0.2 if form == "tasks" else 0.05,
        "keys": KEYS,
        "limit": LIMIT,
        "window": WINDOW,
        "deadline": DEADLINE,
        "on_outage": "local",
        "url": on.url(number),
        **{name: on.options[name] for name in ("prefix", "sentinel") if name in on.options},
    }
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools/reliability_worker.py"), json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the log of the library
        text=True,
    )


def judge(
    fault: Fault,
    results: list[dict[str, Any]],
    lasted: tuple[float, float],
    ended_at: float,
    stalls: list[tuple[float, float]],
) -> Seen:
    began_at, lasted_until = lasted
    records = [
        Record(start, end, key, 1, allowed) for result in results for start, end, key, allowed, _ in result["answers"]
    ]
    inside = [record for record in records if record.start >= began_at + WINDOW and record.end <= lasted_until]
    during = Counter(
        source for result in results for start, _, _, _, source in result["answers"] if began_at <= start < lasted_until
    )
    forms = dict(zip(("tasks", "threads"), (results[0::2], results[1::2]), strict=True))
    return Seen(
        fault=fault.name,
        bound=fault.bound,
        inside_bound=fault.inside,
        waits={form: max(end - start for start, end, *_ in _answers(of)) for form, of in forms.items()},
        excess={
            form: max(
                max(end - start - DEADLINE - _held_up(stalls, start, end), 0.0) for start, end, *_ in _answers(of)
            )
            for form, of in forms.items()
        },
        loop=max(max(result["late"] - max((b - a for a, b in stalls), default=0.0), 0.0) for result in forms["tasks"]),
        errors=dict(Counter(source for *_, allowed, source in _answers(results) if allowed is None)),
        answers=dict(during),
        most=_fullest(records),
        inside=_fullest(inside) if lasted_until - began_at > 2 * WINDOW else None,
        recovered=_recovered(results, ended_at),
        calls=len(records),
        machine=max((b - a for a, b in stalls), default=0.0),
    )


def _answers(results: list[dict[str, Any]]) -> Iterator[tuple[float, float, str, bool | None, str]]:
    for result in results:
        yield from result["answers"]


def _held_up(stalls: list[tuple[float, float]], start: float, end: float) -> float:
    return sum(max(min(b, end) - max(a, start), 0.0) for a, b in stalls)


def _fullest(records: list[Record]) -> float:
    return max((span.units for span in spans(records, WINDOW)), default=0) / LIMIT


def _recovered(results: list[dict[str, Any]], ended_at: float) -> float | None:
    """Return when the last answer without the store was given, seconds after the end; None if it went on to the end."""
    last = ended_at
    for result in results:
        sources = sorted((start, source) for start, _, _, _, source in result["answers"])
        if not any(source == "store" for start, source in sources if start > ended_at):
            return None
        last = max([last, *(start for start, source in sources if source not in ("store", "denial-cache"))])
    return last - ended_at


# Showing


def table(seen: list[Seen]) -> Table:
    made = Table(title=f"{LIMIT} a key in any {WINDOW:g} s, four processes, deadline {DEADLINE * 1000:.0f} ms")
    for column in ("fault", "longest wait", "raised", "answers meanwhile", "fullest window", "recovery"):
        made.add_column(column)
    for each in seen:
        made.add_row(*row(each))
    return made


def row(seen: Seen) -> list[str]:
    waits = " / ".join(f"{seen.waits[form] * 1000:.0f}" for form in ("tasks", "threads"))
    meanwhile = ", ".join(f"{count} {source}" for source, count in sorted(seen.answers.items(), reverse=True))
    recovery = "never" if seen.recovered is None else f"{seen.recovered:.1f} s"
    inside = "" if seen.inside is None else f" ({seen.inside:.2f} N)"
    return [
        seen.fault,
        f"{waits} ms",
        ", ".join(f"{count} {name}" for name, count in seen.errors.items()) or "nothing",
        meanwhile,
        f"{seen.most:.2f} N{inside}",
        recovery,
    ]


PAGE = ROOT / "docs/reliability.md"
DATA = ROOT / "docs/reliability.json"
BEGIN, END = "<!-- written by make faults -->", "<!-- end -->"


def write_page(document: dict[str, Any]) -> None:
    """Write the table into the page, between its marks."""
    seen = [Seen(**each) for each in document["faults"]]
    head = ["fault", "longest wait: tasks / threads", "raised", "answers while it lasts", "fullest window", "recovery"]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    lines += [f"| {' | '.join(row(each))} |" for each in seen]
    about = document["about"]
    lines.append("")
    lines.append(
        f"Measured on {about['date']} with Python {about['python']}, redis-py {about['redis-py']}, {about['server']}, "
        f"{about['cores']} cores. {sum(each.calls for each in seen)} calls. The machine itself held up another process "
        f"for up to {max(each.machine for each in seen) * 1000:.0f} ms. Beyond that and the deadline, no caller waited "
        f"longer than {max(max(each.excess.values()) for each in seen) * 1000:.0f} ms."
    )
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}")


def about() -> dict[str, Any]:
    with servers.running("valkey") as server:
        version = server.version
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "redis-py": redis.__version__,
        "server": version,
        "cores": os.cpu_count(),
    }


@click.command()
@click.option("--only", default="", help="Cause only the faults whose names contain this text.")
@click.option("--soak", "seconds", type=float, help="Instead, cause random faults for so many seconds.")
@click.option("--seed", type=int, help="The seed of --soak, to replay it; by default another one each time.")
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the measurements here, and no page.")
def main(only: str, seconds: float | None, seed: int | None, to: Path | None) -> None:
    """Cause the faults, print what was seen, and write docs/reliability.md."""
    chosen = [fault for fault in FAULTS if only in fault.name]
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a proxy whose server is gone
    if not chosen:
        raise click.BadParameter(f"--only must be part of a fault's name, got {only!r}")
    if shutil.which("redis-server") is None:
        raise click.ClickException("some faults need redis-server: apt-get install redis-server")
    if seconds is not None:
        seen = [soak(seconds, seed if seed is not None else Random().randrange(1 << 32))]
    else:
        seen = one_by_one(chosen)
    document = {"about": about(), "faults": [vars(each) for each in seen]}
    if to is not None:
        to.write_text(json.dumps(document, indent=1) + "\n")
    elif not only and seconds is None:
        DATA.write_text(json.dumps(document, indent=1) + "\n")
        write_page(document)
    report(seen)


def one_by_one(faults: list[Fault]) -> list[Seen]:
    seen = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("faults", total=len(faults))
        for fault in faults:
            progress.update(task, description=fault.name)
            seen.append(run(fault))
            progress.advance(task)
    return seen


def report(seen: list[Seen]) -> NoReturn:
    """Print what was seen, and end with exit code 1 if any of it is wrong."""
    console.print(table(seen))
    for each in seen:
        for wrong in each.wrong:
            console.print(f"[red]{each.fault}: {wrong}")
    sys.exit(any(each.wrong for each in seen))


if __name__ == "__main__":
    main()
