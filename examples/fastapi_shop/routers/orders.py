"""Orders of a customer."""

from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from .. import database
from ..answers import NOT_FOUND, UNREADABLE, refused
from ..customers import CustomerId
from ..database import Order

router = APIRouter(prefix="/orders", tags=["orders"])


class NewOrder(BaseModel):
    """An order, as a customer sends it."""

    item_id: int
    quantity: Annotated[int, Field(ge=1, le=100)] = 1


@router.post("", status_code=201, responses={400: UNREADABLE, 404: NOT_FOUND})
async def order(customer_id: CustomerId, new: NewOrder) -> Order:
    """Order an item."""
    if await database.find_item(new.item_id) is None:
        raise HTTPException(404, "there is no such item")
    return database.save_order(customer_id, new.item_id, new.quantity)


@router.get("/{order_id}", responses={404: refused("The customer has no such order.")})
async def read_order(order_id: int, customer_id: CustomerId) -> Order:
    """Return an order of the customer."""
    found = await database.find_order(order_id, customer_id)
    if found is None:
        raise HTTPException(404, "you have no such order")
    return found
