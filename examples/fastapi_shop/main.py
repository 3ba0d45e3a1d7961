"""The shop: its app, put together from its routers."""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI

from . import customers
from .customers import current_plan, customer_id
from .limits import limits, total
from .routers import items, login, me, orders, reviews, support
from .status_page import status_page

app = FastAPI(
    title="Shop", lifespan=limits.lifespan, responses=limits.responses, dependencies=[Depends(limits), Depends(total)]
)
app.add_middleware(limits.Middleware)  # for the status page, and for paths that do not exist
app.mount("/status", status_page)


@app.get("/health")
@limits.exempt
async def health() -> dict[str, str]:
    """Report that the process is alive."""
    return {"status": "alive"}


api = APIRouter(prefix="/v1", dependencies=[Depends(limits.limit(current_plan, per=customer_id, name="plan"))])
items.router.include_router(reviews.router, dependencies=[Depends(limits.limit("10/minute", per=customer_id))])
for module in (items, orders, me, support):
    api.include_router(module.router)
app.include_router(api, responses=customers.RESPONSES)
app.include_router(login.router)
