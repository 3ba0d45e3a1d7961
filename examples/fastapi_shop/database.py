"""The database of the shop: tables in memory, read as one reads a real one."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

Plan = Literal["free", "trial", "pro", "suspended"]

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Customer:
    """A customer.

    Attributes:
        id: Unique, and never changes, unlike the API key.
        api_key: Secret.
        password_hash: As `hash_password` makes it, salted with the id.
        plan: The plan as it was booked; None for a partner, whose contract has no limit.
        trial_ends_at: When a trial becomes the free plan.
    """

    id: str
    api_key: str
    password_hash: bytes
    plan: Plan | None
    trial_ends_at: datetime = NEVER

    def plan_at(self, now: datetime) -> Plan | None:
        """Return the plan at a time; None for no limit."""
        return "free" if self.plan == "trial" and now >= self.trial_ends_at else self.plan


@dataclass(frozen=True)
class Item:
    """A thing on sale. The price is in cents."""

    id: int
    name: str
    price: int


@dataclass(frozen=True)
class Review:
    """What a customer thinks of an item, with 1 to 5 stars."""

    customer_id: str
    stars: int
    text: str


@dataclass(frozen=True)
class Order:
    """An order of one item."""

    id: int
    customer_id: str
    item_id: int
    quantity: int


def hash_password(password: str, salt: str) -> bytes:
    """Return a hash that takes some milliseconds of a processor, so that guessing is slow; a real shop takes more."""
    return hashlib.scrypt(password.encode(), salt=salt.encode(), n=2**10, r=8, p=1)


def _customer(name: str, plan: Plan | None, trial_ends_at: datetime = NEVER) -> Customer:
    return Customer(name, f"key-of-{name}", hash_password(f"password of {name}", name), plan, trial_ends_at)


_customers = {
    customer.api_key: customer
    for customer in (
        _customer("alice", "free"),
        _customer("bob", "pro"),
        _customer("carol", "trial", datetime.now(UTC) + timedelta(days=14)),
        _customer("dave", "trial", datetime.now(UTC) - timedelta(days=1)),
        _customer("acme", None),
        _customer("mallory", "suspended"),
    )
}
_items = {item.id: item for item in (Item(1, "green tea", 450), Item(2, "black tea", 390), Item(3, "tea pot", 2900))}
_reviews: dict[int, list[Review]] = {}
_orders: dict[int, Order] = {}
_order_ids = itertools.count(1)


async def find_customer(api_key: str) -> Customer | None:
    """Return the customer with an API key; None if there is none."""
    await asyncio.sleep(0)  # a real database is further away
    return _customers.get(api_key)


def save_customer(customer: Customer) -> None:
    """Add a customer, or replace the one with the same API key."""
    _customers[customer.api_key] = customer


def check_password(customer_id: str, password: str) -> Customer | None:
    """Return the customer with an id and a password; None if there is none. It takes as long either way."""
    found = next((customer for customer in _customers.values() if customer.id == customer_id), None)
    salt, expected = (found.id, found.password_hash) if found else ("", b"")
    is_right = secrets.compare_digest(hash_password(password, salt), expected)
    return found if is_right else None


def find_items(text: str) -> list[Item]:
    """Return the items with a text in their names, in any case."""
    return [item for item in _items.values() if text.lower() in item.name]


async def find_item(item_id: int) -> Item | None:
    """Return an item; None if there is none."""
    await asyncio.sleep(0)
    return _items.get(item_id)


def find_reviews(item_id: int) -> list[Review]:
    """Return the reviews of an item, the oldest first."""
    return list(_reviews.get(item_id, ()))


async def save_review(item_id: int, review: Review) -> None:
    """Add a review of an item."""
    await asyncio.sleep(0)
    _reviews.setdefault(item_id, []).append(review)


def save_order(customer_id: str, item_id: int, quantity: int) -> Order:
    """Add an order, and return it with its id."""
    order = Order(next(_order_ids), customer_id, item_id, quantity)
    _orders[order.id] = order
    return order


async def find_order(order_id: int, customer_id: str) -> Order | None:
    """Return an order of a customer; None if there is none, or if it is another customer's."""
    await asyncio.sleep(0)
    order = _orders.get(order_id)
    return order if order is not None and order.customer_id == customer_id else None
