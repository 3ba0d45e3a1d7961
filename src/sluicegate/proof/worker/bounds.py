"""Bounds on the process, so that a target that allocates without end fails by itself."""

import contextlib
import threading

try:
    import resource
except ImportError:  # no such bounds on this system
    resource = None  # type: ignore[assignment]

_ROOM = 64 << 20  # bytes
_STACK = 1 << 20  # bytes of a thread: they count as memory, and there may be a hundred threads


def bound(mebibytes: int) -> None:
    """Bound what the process may hold: beyond it Python raises MemoryError."""
    threading.stack_size(_STACK)
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (mebibytes << 20, (mebibytes << 20) + _ROOM))


def make_room() -> None:
    """Allow a little more than the bound, once: to say that there is no memory left takes memory."""
    if resource is not None:
        with contextlib.suppress(ValueError, OSError):
            most = resource.getrlimit(resource.RLIMIT_DATA)[1]
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
