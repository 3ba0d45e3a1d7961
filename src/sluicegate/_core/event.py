"""What happened to a store: told to the callbacks of its limiters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["down", "up", "state-lost", "failed-over"]


@dataclass(frozen=True, slots=True)
class StoreEvent:
    """Something that happened to the server of a store.

    Attributes:
        kind: ``down`` when calls have failed in a row, and decisions are made without the store from now on; ``up``
            when it answers again; ``state-lost`` when the server has lost its counters, as by a restart without
            persistence: every limit is fresh; ``failed-over`` when another server took its place, or it was restarted
            with its data: what was counted in the last moments before may be lost.
        reason: For ``down`` the `StoreError.reason` of the last failure; otherwise empty.
        seconds: For ``up`` how long it was down; otherwise 0.0.
    """

    kind: Kind
    reason: str = ""
    seconds: float = 0.0
