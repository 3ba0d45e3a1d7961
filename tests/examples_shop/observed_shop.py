"""The shop as its workers serve it in the tests, with more customers, and a route that shows a worker's own state.

With PATIENT set, decisions wait for the store as long as it takes: on a busy machine some would be late.
"""

from __future__ import annotations

import os

from sluicegate.web.fastapi import RateLimits

if os.environ.get("PATIENT"):
    RateLimits.__init__.__kwdefaults__["deadline"] = 30

from examples.fastapi_shop.database import Customer, save_customer
from examples.fastapi_shop.limits import limits
from examples.fastapi_shop.main import app

for number in range(1000):
    save_customer(Customer(f"free-{number}", f"key-of-free-{number}", b"", "free"))


@app.get("/worker")
@limits.exempt
async def worker() -> dict[str, int | bool | None]:
    outage = limits._engine.limiters.store.outage
    return {"pid": os.getpid(), "fleet": outage.fleet.size, "is_down": outage.health.is_open}
