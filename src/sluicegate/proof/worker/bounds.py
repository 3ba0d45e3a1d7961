"""Bound the memory of the process, so that a target that allocates without end gets a MemoryError."""

import contextlib
import threading

try:
    import resource
except ImportError:  # this system has no resource limits
    resource = None  # type: ignore[assignment]

_ROOM = 64 << 20  # bytes
_STACK = 1 << 20  # bytes for each thread: stacks count as memory, and there may be a hundred threads


def limit_memory(mebibytes: int) -> None:
    """Limit the memory of the process: beyond it Python raises MemoryError."""
    threading.stack_size(_STACK)
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (mebibytes << 20, (mebibytes << 20) + _ROOM))


def raise_memory_limit() -> None:
    """Raise the limit a little, once: it takes memory to report that there is none left."""
    if resource is not None:
        with contextlib.suppress(ValueError, OSError):
            most = resource.getrlimit(resource.RLIMIT_DATA)[1]
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
