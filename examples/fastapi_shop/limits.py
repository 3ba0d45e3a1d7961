"""The rate limits of the shop: the default for an address, the plans, and the cap on all customers together."""

from __future__ import annotations

from sluicegate.web.fastapi import RateLimits

from .settings import settings

PLANS = {"free": "20/minute", "trial": "60/minute", "pro": "600/minute"}

limits = RateLimits("1000/minute", store=settings.store, strict=True, plans=PLANS)
total = limits.shared("30000/minute", name="total")
