"""The customer's own data."""

from fastapi import APIRouter
from pydantic import BaseModel

from ..customers import CurrentPlan, CustomerId

router = APIRouter(prefix="/me", tags=["account"])


class Me(BaseModel):
    """The customer. The plan is null for a partner, who has no limit."""

    id: str
    plan: str | None


@router.get("")
async def read_me(customer_id: CustomerId, plan: CurrentPlan) -> Me:
    """Return the customer's own data."""
    return Me(id=customer_id, plan=plan)
