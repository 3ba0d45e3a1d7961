"""A worker: the process in which the target runs. It loads it, asks it as it is told, and says what came.

It is run as ``python __main__.py FD FD`` by whichever Python the target needs, 3.11 or newer, so it imports the
standard library alone. Nothing of Sluicegate either: that may be the target, to be imported once the clocks are replaced.
Commands come in on the first descriptor and replies go out on the second, as lines of JSON; what the target prints goes
elsewhere. The target is not trusted: it may hang, die, or write to the pipes, and the other side reckons with it.

The first line out is ``{"n": 0, "python": "3.11.7"}``: the interpreter runs. After it each command is answered once. A
command has ``n``, its number, which its reply repeats, and ``do``; beside them come its arguments, all of them:

    load     target (file or module, and name; or url), limit, window, redis_url (or null), clock (real, wall, moved),
             wall (seconds that the wall clock is off), memory (MiB), trace, asynchronous (known to be) -> abilities
    play     lanes, begin_at, end_at (nobody is asked after it), restless, keep -> records, peeks, errors, odd,
             stalled, cut (whether a lane was not done by then), asynchronous (found to be)
    pace     keys, times, rounds, within (seconds, after which it stops) -> rounds: for each the mean seconds of a call
    advance  seconds, of a moved clock -> nothing more
    wall     seconds that the wall clock is off from now on -> nothing more
    memory   -> bytes
    threads  -> threads (that the target has started, and that are alive)

A lane of a play is a list of steps, done one after the other in a thread of its own, or a task where the target is
asynchronous. A step is ``[at, until, times, pause, verb, cost, keys]``: at ``at`` seconds after the play began, ask
``times`` times, or until ``until`` where that is no null, each time for the next of the keys, ``pause`` seconds apart.
A record is ``[start, end, key, cost, allowed, retry_after, remaining]``: see `sluicegate.proof.history.Record`.

Where something was raised the reply has ``raised`` instead: ``type``, ``message`` and ``where`` (file and line). Where
the target is not what can be graded it has ``unusable``, a sentence.
"""

MOST = 100_000
"""Records that one lane keeps; with them it ends."""

PIPES_CLOSED = 74
"""Exit code of a worker that can no longer read or answer: EX_IOERR of sysexits.h."""
