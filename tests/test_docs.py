"""The examples in the documents run, their links and paths lead somewhere, and their figures are those measured."""

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
from sluicegate import AsyncLimiter, InvalidKey, InvalidPolicy, InvalidRate, Limiter, MemoryStore, SlidingWindow
from sluicegate._core.policies import Policies
from sluicegate._stores.redis.stored_keys import stored_key

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), ROOT / "tests/README.md", *ROOT.glob("examples/**/README.md"), *ROOT.glob("docs/**/*.md")]
)


def _files() -> list[str]:
    """Return the paths of the project's own files, relative to its root."""
    folders = [ROOT / name for name in ("src", "app", "tests", "docs", "examples", "tools", "benchmarks", ".ci")]
    found = [*ROOT.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]
    return [
        str(path.relative_to(ROOT))
        for path in found
        if path.is_file() and not any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)
    ]


FILES = _files()


@pytest.mark.usefixtures("environment")
def test_each_example_of_the_readme_runs_by_itself(server: servers.Server):
    blocks = _blocks((ROOT / "README.md").read_text())
    assert len(blocks) >= 7
    for block in blocks:
        asyncio.run(_run([block.replace("redis://localhost:6379/0", server.url)], ROOT / "README.md"))


def test_the_figures_of_the_readme_are_those_of_their_page():
    measured = (ROOT / "docs/performance.md").read_text().replace("&nbsp;", " ")
    section = (ROOT / "README.md").read_text().partition("## In figures")[2].partition("\n## ")[0]
    figures = re.findall(r"\*\*([\d. ]+(?: ns| bytes)?)\*\*", section)
    assert len(figures) == 5
    machine = section.partition("Measured on ")[2].partition(". [All figures]")[0]
    for said in [*figures, *re.split(r" on Linux|: |, ", machine)]:
        assert said in measured, said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page: Path):
    links = re.findall(r"\]\((?!https?://)([^)]+)|src(?:set)?=\"([^\"]+)", page.read_text())
    for target, _, anchor in ((link or picture).partition("#") for link, picture in links):
        found = page.parent / target if target else page
        assert found.exists(), target
        if anchor:
            assert anchor in _anchors(found.read_text()), f"{target}#{anchor}"


def _anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


FOLDERS = ("src/", "app/", "tests/", "docs/", "examples/", "tools/", "benchmarks/", ".ci/")
# Names that a page gives to files of its reader.
INVENTED = {"docs/adr/NNNN-title.md", "your_name.py", "your_name.lua", "saves_up.py"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_path_in_backticks_exists(page: Path):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for path in re.findall(r"`([\w./-]+?)/?`", prose):
        if path in INVENTED or not (path.startswith(FOLDERS) or path.endswith((".py", ".lua"))):
            continue
        assert (ROOT / path).exists() or any(f"/{file}".endswith(f"/{path}") for file in FILES), path


# Words of our own that the field's have replaced. Left out: those that are also plain English words in use here.
RETIRED = (
    *("Bench", "Counted", "DATED", "Elsewhen", "Flight", "Guess", "TaskLine", "ThreadLine", "Wire", "Rig", "Face"),
    *("clashes", "crew", "exemption", "idle_at", "mend", "mended", "restless", "see_off", "nudge"),
    *("written_out", "under_way", "heir", "errand", "errands"),
)
# The changelog names them for the person upgrading.
MAY_NAME_THEM = {"CHANGELOG.md", "tests/test_docs.py"}
TEXT = (".py", ".lua", ".md", ".jinja", ".css", ".toml", ".yml", ".txt", ".svg", "Makefile", ".ci/run")


def test_no_retired_word_is_left():
    word = re.compile(rf"(?<!\w)_*(?:{'|'.join(RETIRED)})(?!\w)")
    texts = {file: (ROOT / file).read_text(encoding="utf-8") for file in FILES if file.endswith(TEXT)}
    found = {file: sorted(set(word.findall(text))) for file, text in texts.items() if file not in MAY_NAME_THEM}
    assert {file: words for file, words in found.items() if words} == {}


GUIDES = sorted(page for page in ROOT.glob("docs/**/*.md") if "\nfrom sluicegate import" in page.read_text())
SUBJECTS = (
    "*-model",
    "partner",
    "reports-db",
    "other",
    "carol",
    "alice",
    "testclient",
    "bob",
    "acme",
    "mallory",
    "192.0.2.[0-9]",
    "[*]",
)


def test_the_guides_are_found():
    assert {page.stem for page in GUIDES} >= {
        "algorithms",
        "use-the-library",
        "rates",
        "several-policies",
        "limits-by-plan",
        "block-a-key",
        "wait-your-turn",
        "budget-llm-calls",
        "count-failures-only",
        "limit-concurrency",
        "stored-keys",
        "test-your-limits",
    }


@pytest.fixture
def environment(server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set up the service for this server, as pages that read its settings expect; drop the pages' keys afterwards."""
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
    """Run a page's blocks in their order, in one namespace, and close the limiters that they opened."""
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
    shown = re.findall(r"^(?:sluicegate\.InvalidRate: )?(expected .*\n  (?!\.\.\.)(.*)\n  +\^)$", page, re.MULTILINE)
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
    assert len(rows) == 14
    for policy, key, stored in rows:
        ((made, counted, _),) = Policies([eval(policy, vars(sluicegate).copy())]).charges(eval(key))
        assert stored_key("sluicegate:", made.namespace, counted) == stored


def test_every_page_of_the_reference_can_be_found_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    pages = [f"docs/reference/{page.name}" for page in ROOT.glob("docs/reference/*.md")]
    assert [page for page in pages if f"]({page})" not in readme] == []


def test_every_exception_is_in_the_table_of_the_guide_and_so_is_the_page_of_warnings():
    guide = (ROOT / "docs/how-to/use-the-library.md").read_text()
    table = guide.partition("| exception | means |")[2].partition("\n\n")[0]
    listed = set(re.findall(r"`(\w+)`", table))
    kinds = {name for name, value in vars(sluicegate).items() if _is_an_error(value)}
    assert kinds - listed == {"SluicegateError"}
    assert "](../reference/warnings.md)" in guide


def _is_an_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, sluicegate.SluicegateError)


def test_the_page_of_several_policies_shows_what_is_raised_for_two_that_share_a_counter():
    with MemoryStore() as store, Limiter("5/minute", store=store), pytest.raises(InvalidPolicy) as caught:
        Limiter("6/minute", store=store)
    assert f"```text\n{caught.value}\n```" in (ROOT / "docs/how-to/several-policies.md").read_text()


@pytest.mark.parametrize("key", [{"usr": "alice", "ip": "192.0.2.7"}, {"user": "alice"}], ids=["misspelt", "too few"])
def test_the_page_of_several_policies_shows_what_is_raised_for_a_wrong_key(key: dict[str, str]):
    limiter = Limiter(
        SlidingWindow(10, window=60, name="minute", per="user"), SlidingWindow(60, window=60, name="address", per="ip")
    )
    with pytest.raises(InvalidKey) as caught:
        limiter.take(key)
    assert f"```text\n{caught.value}\n```" in (ROOT / "docs/how-to/several-policies.md").read_text()
