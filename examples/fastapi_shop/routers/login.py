"""Logging in, by name and password."""

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from .. import database
from ..answers import UNREADABLE, refused
from ..limits import limits

router = APIRouter(prefix="/login", tags=["account"])


class Credentials(BaseModel):
    """A name and a password."""

    name: str = Field(max_length=100)
    password: str = Field(max_length=100)


class LoggedIn(BaseModel):
    """The API key to send with every request."""

    api_key: str


@router.post("", responses={400: UNREADABLE, 401: refused("The name or the password is wrong.")})
@limits.limit("5/minute", charge_when=lambda response: response.status_code == 401, message="Too many wrong passwords.")
def log_in(credentials: Credentials) -> LoggedIn:
    """Return the API key of a customer. It is not async, as checking a password keeps a processor busy."""
    customer = database.check_password(credentials.name, credentials.password)
    if customer is None:
        raise HTTPException(401, "wrong name or password")
    return LoggedIn(api_key=customer.api_key)
