"""What is on sale."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query

from .. import database
from ..answers import NOT_FOUND
from ..database import Item

router = APIRouter(prefix="/items", tags=["items"])


async def current_item(item_id: int) -> Item:
    """Return the item in the path. Raises a 404 if there is none."""
    item = await database.find_item(item_id)
    if item is None:
        raise HTTPException(404, "there is no such item")
    return item


CurrentItem = Annotated[Item, Depends(current_item)]


@router.get("")
def search(text: Annotated[str, Query(max_length=100)] = "") -> list[Item]:
    """Return the items with a text in their names. It is not async, as it keeps a processor busy."""
    return database.find_items(text)


@router.get("/{item_id}", responses={404: NOT_FOUND})  # noqa: FAST003 - current_item takes it
async def read_item(item: CurrentItem) -> Item:
    """Return one item."""
    return item
