"""Who sends a request: the customer with the API key, as a dependency."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Security
from fastapi.security import APIKeyHeader

from . import database
from .answers import refused
from .database import Customer, Plan


async def current_customer(api_key: Annotated[str, Security(APIKeyHeader(name="X-API-Key"))]) -> Customer:
    """Return the customer whose API key was sent.

    Raises:
        HTTPException: A 401 if there is no such key, a 403 if the customer is suspended.
    """
    customer = await database.find_customer(api_key)
    if customer is None:
        raise HTTPException(401, "unknown API key", {"WWW-Authenticate": "APIKey"})
    if customer.plan == "suspended":
        raise HTTPException(403, "this customer is suspended")
    return customer


CurrentCustomer = Annotated[Customer, Depends(current_customer)]


async def customer_id(customer: CurrentCustomer) -> str:
    """Return the id of the customer, which may be logged and stored, unlike the API key."""
    return customer.id


async def current_plan(customer: CurrentCustomer) -> Plan | None:
    """Return the plan of the customer today: a trial ends. None for no limit."""
    return customer.plan_at(datetime.now(UTC))


CustomerId = Annotated[str, Depends(customer_id)]
CurrentPlan = Annotated[Plan | None, Depends(current_plan)]

RESPONSES: dict[int | str, dict[str, Any]] = {
    401: refused("The API key is missing or unknown."),
    403: refused("The customer is suspended."),
}
"""What routes for customers answer to others, for OpenAPI."""
