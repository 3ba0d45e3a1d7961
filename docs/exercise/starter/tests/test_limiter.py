"""The rule: each test runs on both limiters. For phase A alone, `pytest -q -k memory`."""

import functools
import os
import uuid

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.limiter_memory import MemorySlidingWindow
from app.limiter_redis import RedisSlidingWindow

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")


@functools.cache
def redis_answers():
    client = redis.Redis.from_url(REDIS_URL, socket_connect_timeout=1, socket_timeout=1, retry=Retry(NoBackoff(), 0))
    try:
        return client.ping()
    except redis.RedisError:
        return False
    finally:
        client.close()


@pytest.fixture(params=["memory", "redis"])
def make(request):
    """Return a function that makes a limiter from a limit and a window in seconds."""
    if request.param == "memory":
        return MemorySlidingWindow
    if not redis_answers():
        pytest.skip("no Redis answers at REDIS_URL: docker compose up -d")
    return functools.partial(RedisSlidingWindow, redis_url=REDIS_URL)


@pytest.fixture
def user():
    """Return a fresh user id: Redis remembers the users of earlier runs."""
    return f"alice-{uuid.uuid4().hex}"


def test_the_limit_is_allowed_and_not_one_request_more(make, user):
    limiter = make(3, 60)
    assert [limiter.allow(user) for _ in range(5)] == [True, True, True, False, False]


def test_users_do_not_affect_one_another(make, user):
    limiter = make(1, 60)
    assert limiter.allow(user) is True
    assert limiter.allow(user) is False
    assert limiter.allow(f"{user}-2") is True


# Yours to write: the edges of the window, bursts, parallel calls.
