"""The examples in the documents run, and their links lead somewhere."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import servers
import sluicegate
from app.config import load
from app.main import create_app
from sluicegate import AsyncLimiter, InvalidKey, InvalidRate, Limiter, SlidingWindow
from sluicegate._core.keys import stored_key
from sluicegate._core.policies import Policies

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_readmes_examples_run(server: servers.Server):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        asyncio.run(_run([block.replace("redis://localhost:6379/0", server.url)], ROOT / "README.md"))
    for subject in ("alice", "acme", "mallory", "[*]"):
        server.client.delete(*server.client.scan_iter(f"sluicegate:{{{subject}}}:*"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page: Path):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


GUIDES = sorted(page for page in ROOT.glob("docs/**/*.md") if "\nfrom sluicegate import" in page.read_text())
SUBJECTS = ("alice", "bob", "acme", "mallory", "192.0.2.[0-9]", "[*]")


def test_the_guides_are_found():
    assert {page.stem for page in GUIDES} >= {
        "algorithms",
        "rates",
        "several-policies",
        "limits-by-plan",
        "block-a-key",
        "stored-keys",
    }


@pytest.fixture
def environment(server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """That of the service on this server, for pages that read its settings; the pages' keys are gone afterwards."""
    monkeypatch.setenv("RATE_LIMIT_BACKEND", "redis")
    monkeypatch.setenv("REDIS_URL", server.url)
    yield
    for subject in SUBJECTS:
        server.client.delete(*server.client.scan_iter(f"sluicegate:{{{subject}}}:*"), "sluicegate:none")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_the_examples_of_a_guide_run_in_their_order(page: Path, server: servers.Server):
    asyncio.run(_run(_blocks(page.read_text().replace("redis://localhost:6379/0", server.url)), page))


def _blocks(source: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", source, re.DOTALL)


@pytest.mark.usefixtures("environment")
def test_the_block_of_the_guide_is_felt_by_the_service():
    page = ROOT / "docs/how-to/block-a-key.md"
    with TestClient(create_app(load())) as service:
        assert service.get("/ping?user_id=mallory").status_code == 200
        asyncio.run(_run(_blocks(page.read_text())[:1], page))
        assert service.get("/ping?user_id=mallory").status_code == 429


async def _run(blocks: list[str], page: Path) -> None:
    """Run a page's blocks in their order, in one namespace, and close what they opened, as their reader would."""
    names: dict[str, object] = {}
    opened: list[object] = []
    for block in blocks:
        code = compile(block, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        done = eval(code, names)
        if code.co_flags & inspect.CO_COROUTINE:
            await done
        opened += names.values()
    for each in opened:
        if isinstance(each, Limiter):
            each.close()
        elif isinstance(each, AsyncLimiter):
            await each.aclose()


def test_the_errors_that_the_page_of_rates_shows_are_those_that_are_raised():
    page = (ROOT / "docs/reference/rates.md").read_text()
    shown = re.findall(
        r"^(?:sluicegate\.InvalidRate: )?(expected .*\n  (?!\.\.\.)(.*)\n  +\^)$", page, re.MULTILINE
    )
    assert len(shown) == 8
    for message, text in shown:
        with pytest.raises(InvalidRate) as caught:
            Limiter(text)
        assert str(caught.value) == message


def test_the_rates_that_the_page_of_rates_shows_are_rates():
    table = (ROOT / "docs/reference/rates.md").read_text().partition("| text | is |")[2].partition("\n\n")[0]
    rates = [
        rate.replace(r"\|", "|")
        for line in table.splitlines()
        for rate in re.findall(r"`([^`]+)`", line.rpartition(" | ")[0])
    ]
    assert len(rates) == 16
    for rate in rates:
        assert Limiter(rate)


def test_the_stored_keys_that_their_page_shows_are_those_that_are_made():
    page = (ROOT / "docs/reference/stored-keys.md").read_text()
    rows = re.findall(r"^\| `(\w+\(.*\))` \| `(.+)` \| `(sluicegate:.+)` \|$", page, re.MULTILINE)
    assert len(rows) == 12
    for policy, key, stored in rows:
        ((made, counted, _),) = Policies([eval(policy, vars(sluicegate).copy())]).charges(eval(key))
        assert stored_key("sluicegate:", made.namespace, counted) == stored


@pytest.mark.parametrize("key", [{"usr": "alice", "ip": "192.0.2.7"}, {"user": "alice"}], ids=["misspelt", "too few"])
def test_the_page_of_several_policies_shows_what_is_raised_for_a_wrong_key(key: dict[str, str]):
    limiter = Limiter(
        SlidingWindow(10, window=60, name="minute", per="user"), SlidingWindow(60, window=60, name="address", per="ip")
    )
    with pytest.raises(InvalidKey) as caught:
        limiter.take(key)
    assert f"```text\n{caught.value}\n```" in (ROOT / "docs/how-to/several-policies.md").read_text()
