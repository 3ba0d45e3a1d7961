"""The settings of the shop, from environment variables that begin with ``SHOP_``."""

from __future__ import annotations

from pydantic import Field, RedisDsn
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The settings. An empty variable counts as not set, as docker compose passes it."""

    # A URL may hold a password: it is neither shown nor quoted in an error.
    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True, hide_input_in_errors=True)

    redis_url: RedisDsn | None = Field(
        default=None,
        repr=False,
        description="a URL such as redis://localhost:6379/0; without one, each process counts in its memory",
    )

    @property
    def store(self) -> str | None:
        """The URL of the Redis that counts, or None for the memory of this process."""
        return None if self.redis_url is None else str(self.redis_url)


settings = Settings()
