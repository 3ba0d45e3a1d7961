"""Reviews of an item: a router inside of that of the items."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from .. import database
from ..answers import NOT_FOUND, UNREADABLE
from ..customers import CustomerId
from ..database import Review
from .items import CurrentItem

router = APIRouter(prefix="/{item_id}/reviews", tags=["reviews"], responses={404: NOT_FOUND})


class NewReview(BaseModel):
    """A review, as a customer writes it."""

    stars: Annotated[int, Field(ge=1, le=5)]
    text: Annotated[str, Field(max_length=1000)] = ""


@router.get("")
def read_reviews(item: CurrentItem) -> list[Review]:
    """Return the reviews of an item, the oldest first."""
    return database.find_reviews(item.id)


@router.post("", status_code=201, responses={400: UNREADABLE})
async def write_review(item: CurrentItem, customer_id: CustomerId, new: NewReview) -> Review:
    """Add a review."""
    review = Review(customer_id, new.stars, new.text)
    await database.save_review(item.id, review)
    return review
