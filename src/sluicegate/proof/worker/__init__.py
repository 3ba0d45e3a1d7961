"""The worker: the process in which the target runs. It loads the target, calls it as commanded and replies.

It is run as ``python __main__.py FD FD`` by the target's own Python, 3.11 or newer, and imports only the standard
library. It must not import Sluicegate either: that may be the target, to be imported once the clocks are replaced.
Commands arrive on the first descriptor and replies leave on the second, as lines of JSON; the target's output goes
elsewhere. The target is not trusted: it may hang, die, or write to the pipes, and the kit's side allows for that.

The first line out is ``{"n": 0, "python": "3.11.7"}`` and shows that the interpreter runs. Then every command gets one
reply. A command has a number ``n``, which its reply repeats, the name ``do``, and all of the arguments of that name:

    load        target (file or module, and name; or url), limit, window, redis_url (or null), clock (real, wall or
                manual), wall and monotonic (seconds by which the wall clock and the monotonic ones are off), memory
                (MiB), trace, asynchronous (known to be) -> abilities
    beside      limit, window: construct another limiter, which gets the calls from now on -> nothing more
    turn        the next of these limiters gets the calls from now on -> nothing more
    run         clients, start_at, end_at (no call is made after it), preempt, keep -> records, peeks, errors,
                unexpected, discarded (the seconds of each call without a record), loop_blocked, paused, cut (whether
                calls were left out at the end), asynchronous (found to be)
    time_calls  keys, times, rounds, within (seconds after which it stops) -> rounds: the mean seconds of a call in each
    time_each   keys, times, pause (seconds between two calls), within (as above) -> seconds: the processor time of each
                call in its thread
    advance     seconds to advance a manual clock by -> nothing more
    wall        seconds by which the wall clock is off from now on -> nothing more
    memory      -> bytes
    threads     -> threads that the target has started and that are alive

A client is a list of steps, done one after the other in its own thread, or in a task if the target is asynchronous. A
step is ``[at, until, times, pause, verb, cost, timeout, keys]``: ``at`` seconds after the start of the scenario, call
the method ``verb`` ``times`` times, or until ``until`` if that is not null, each time for the next of the keys,
``pause`` seconds apart, with ``timeout`` seconds if that is not null. The verbs ``settle`` and ``cancel`` end what
``reserve`` returned last for the key; their cost is what was used. ``release`` and ``renew`` are for what ``acquire``
returned, and their cost says which, from 1 on. None of them leaves a record. A record is ``[start, end, key,
cost, allowed, retry_after, remaining]``, the fields of `sluicegate.proof.history.Record`.

If the command raised, the reply has ``raised`` instead: ``type``, ``message`` and ``where`` (file and line). If the
target cannot be graded, it has ``unusable``: a sentence without its subject.
"""

MOST = 100_000
"""The most records that a client keeps; it stops there."""

PIPES_CLOSED = 74
"""Exit code of a worker that can no longer read or reply: EX_IOERR of sysexits.h."""
