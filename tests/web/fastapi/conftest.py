"""Fixtures for the tests of limits in FastAPI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from asking import Serve
from fastapi import FastAPI
from fastapi.testclient import TestClient

import servers


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start an app, and stop it at the end of the test."""

    def on(app: FastAPI, **options: Any) -> TestClient:
        return opened.enter_context(TestClient(app, **options))

    with ExitStack() as opened:
        yield on


@pytest.fixture
def own_server() -> Iterator[servers.Server]:
    """A server to pause and to kill."""
    kinds = list(servers.binaries())
    if not kinds:
        pytest.skip(servers.HOW_TO_GET_ONE)
    with servers.running(kinds[0]) as server:
        yield server
