"""What the service counts, in one process."""

from __future__ import annotations

import asyncio
import re

from fastapi.testclient import TestClient

from app.config import Settings
from app.main import create_app
from app.metrics import Metrics
from sluicegate import AsyncLimiter, MemoryStore, SlidingWindow
from sluicegate._stores.memory.awaited import AwaitedMemoryStore
from sluicegate.testing import ManualClock


def test_every_metric_is_there_before_the_first_request_and_no_key_is_a_label_after_it():
    with TestClient(create_app(Settings())) as client:
        text = client.get("/metrics").text
        client.get("/ping?user_id=alice")
        after = client.get("/metrics").text
    for line in (
        'sluicegate_decisions_total{outcome="allowed",policy="sliding-window-60s"} 0.0',
        'sluicegate_decision_duration_seconds_count{source="store"} 0.0',
        'sluicegate_decision_duration_seconds_count{source="denial-cache"} 0.0',
        "sluicegate_store_up 1.0",
        "sluicegate_denials_remembered_total 0.0",
        "sluicegate_counters_repaired_total 0.0",
    ):
        assert f"\n{line}\n" in text
    assert 'sluicegate_decision_duration_seconds_count{source="store"} 1.0' in after
    assert 0 < float(re.search(r'_duration_seconds_sum{source="store"} (.*)', after)[1]) < 60
    assert "alice" not in after


def test_counters_that_the_store_repaired_are_counted_once():
    clock = ManualClock()
    store = AwaitedMemoryStore(MemoryStore(clock=clock))
    limiter = AsyncLimiter(SlidingWindow(5, window=60), store=store)
    metrics = Metrics(limiter.policies, store)

    async def take() -> None:
        await limiter.take("alice")
        metrics.note_store(up=True)

    for step in (365 * 86400, -365 * 86400, 0):
        clock.advance(step)
        asyncio.run(take())
    assert "\nsluicegate_counters_repaired_total 1.0\n" in metrics.text().decode()
