"""``sluicegate routes``: what it lists of an app, how it finds the app and its limits, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
from typing import Annotated
from fastapi import APIRouter, Depends, FastAPI, Header, WebSocket
from starlette.routing import Mount
from sluicegate import Concurrency, TokenBucket
from sluicegate.web.fastapi import RateLimits, client_address, cookie, header

limits = RateLimits("100/minute")
"""

APP = """
async def current_user(x_user: Annotated[str, Header()]) -> str:
    return x_user

async def by_plan(user: Annotated[str, Depends(current_user)]) -> str:
    return "5/minute"

app = FastAPI(lifespan=limits.lifespan)
router = APIRouter(prefix="/items", dependencies=[Depends(limits.limit("1000/hour", per=header("X-API-Key")))])
exports = limits.shared(TokenBucket(10, window=60, burst=50), name="exports")

@router.get("/{item}")
async def item(item: int): ...

app.include_router(router, prefix="/v1")

@app.get("/search", dependencies=[Depends(limits), Depends(limits.limit(by_plan, per=current_user))])
async def search(): ...

@app.get("/export", dependencies=[Depends(exports)])
async def export(): ...

@app.websocket("/live")
@limits.limit(Concurrency(3, per=("user", "session")), per={"user": current_user, "session": cookie("id")})
async def live(websocket: WebSocket): ...

@app.get("/healthz")
@limits.exempt
async def healthz(): ...
"""

LISTED = """\
METHODS | PATH | LIMIT | ALLOWS | COUNTS BY | PUT ON
GET,HEAD | /openapi.json | documentation
GET,HEAD | /docs | documentation
GET,HEAD | /docs/oauth2-redirect | documentation
GET,HEAD | /redoc | documentation
GET | /v1/items/{item} | v1-items | 1000 in any hour | header X-API-Key | router /v1/items
GET | /search | get-search | 100 in any minute | client_address | GET /search
get-search-2 | what by_plan returns | current_user | GET /search
GET | /export | exports | 10 per minute, 50 at once | all together | everywhere
WS | /live | ws-live | 3 at once | user: current_user, session: cookie id | WS /live
GET | /healthz | exempt

5 routes: 4 limited, 1 exempt, 0 without a limit"""

pytestmark = pytest.mark.slow  # a process for each


@pytest.fixture
def routes(tmp_path: Path):
    """Run the command in a folder with a module `shop`, and perhaps other files."""

    def run(source: str, *arguments: str, **files: str) -> subprocess.CompletedProcess[str]:
        Path(tmp_path, "shop.py").write_text(source)
        for name, text in files.items():
            Path(tmp_path, f"{name}.toml").write_text(text)
        return subprocess.run(
            [sys.executable, "-m", "sluicegate", "routes", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def cells(table: str) -> list[list[str]]:
    """Return the cells of each line, whatever the widths of the columns."""
    return [[cell.strip() for cell in line.split("  ") if cell] for line in table.splitlines()]


# What is listed


def test_every_route_is_listed_with_its_prefixes_its_limits_and_what_they_count_by(routes):
    done = routes(HEAD + APP, "shop:app")
    assert (done.returncode, done.stderr) == (0, "")
    assert [" | ".join(line) for line in cells(done.stdout)] == LISTED.splitlines()


def test_the_columns_are_aligned(routes):
    head, *lines = routes(HEAD + APP, "shop:app").stdout.partition("\n\n")[0].splitlines()
    for heading in ("PATH", "LIMIT"):
        at = head.index(heading)
        assert {line[at - 1] for line in lines} == {" "}
        assert all(line[at] != " " for line in lines if line[0] != " ")


def test_a_route_without_a_limit_is_marked_and_is_exit_code_1_if_asked_to_be_strict(routes):
    source = HEAD + APP + '\n@app.post("/upload")\nasync def upload(): ...\n'
    lenient, strict = routes(source, "shop:app"), routes(source, "shop:app", "--strict")
    assert ["POST", "/upload", "NO LIMIT"] in cells(lenient.stdout)
    assert lenient.stdout.endswith("6 routes: 4 limited, 1 exempt, 1 without a limit\n")
    assert (lenient.returncode, lenient.stderr) == (0, "")
    assert (strict.returncode, strict.stdout) == (1, lenient.stdout)
    assert strict.stderr == (
        "sluicegate: no limit is in force on POST /upload: give each one, or put @limits.exempt below its line\n"
    )


def test_an_app_whose_routes_are_limited_or_exempt_passes_though_its_documentation_is_neither(routes):
    assert routes(HEAD + APP, "shop:app", "--strict").returncode == 0


def test_json_has_all_that_the_table_has_and_the_numbers(routes):
    done = routes(HEAD + APP, "shop:app", "--json")
    listed = {(*row["methods"], row["path"]): row for row in json.loads(done.stdout)}
    assert len(listed) == 9
    assert listed["GET", "/export"] == {
        "path": "/export",
        "methods": ["GET"],
        "limits": [
            {
                "name": "exports",
                "policies": [
                    {
                        "name": "exports",
                        "allows": "10 per minute, 50 at once",
                        "algorithm": "token-bucket",
                        "limit": 10,
                        "window": 60.0,
                        "burst": 50,
                    }
                ],
                "function": None,
                "per": "all together",
                "at": "everywhere",
            }
        ],
        "exempt": False,
        "documentation": False,
        "lacks_limit": False,
    }
    assert listed["GET", "/search"]["limits"][1]["function"] == "by_plan"
    assert listed["GET", "/healthz"]["exempt"]
    assert listed["GET", "HEAD", "/docs"]["documentation"]


def test_what_the_app_prints_is_not_part_of_the_list(routes):
    done = routes(HEAD + APP + '\nprint("hello")\n', "shop:app", "--json")
    assert json.loads(done.stdout)
    assert done.stderr == "hello\n"


# How the app and its limits are found


def test_without_an_argument_it_is_the_app_that_pyproject_names(routes):
    done = routes(HEAD + APP, pyproject='[tool.fastapi]\nentrypoint = "shop:app"\n')
    assert (done.returncode, done.stdout) == (0, routes(HEAD + APP, "shop:app").stdout)


@pytest.mark.parametrize(
    "source",
    [
        "app = FastAPI(lifespan=limits.lifespan)",
        "app = FastAPI()\napp.add_middleware(limits.Middleware)",
        "app = FastAPI(dependencies=[Depends(limits)])",
        'app = FastAPI(dependencies=[Depends(limits.limit("5/s"))])',
        'app = FastAPI()\n@app.get("/b")\n@limits.limit("5/s")\nasync def b(): ...',
        'app = FastAPI()\nb = FastAPI(dependencies=[Depends(limits)])\nb.get("/c")(print)\napp.mount("/b", b)',
    ],
    ids=["lifespan", "middleware", "default", "limit", "decorator", "mounted"],
)
def test_the_limits_are_found_wherever_the_app_has_them(routes, source: str):
    done = routes(f'{HEAD}{source}\n@app.get("/a")\nasync def a(): ...\n', "shop:app")
    assert (done.returncode, done.stderr) == (0, "")
    assert "/a " in done.stdout


def test_the_middleware_limits_what_no_dependency_reaches(routes):
    source = HEAD + "app = FastAPI()\napp.add_middleware(limits.Middleware)\napp.mount('/files', lambda *_: None)\n"
    done = routes(source, "shop:app", "--strict")
    assert ["MOUNT", "/files", "default", "100 in any minute", "client_address", "app"] in cells(done.stdout)
    assert done.returncode == 0


# How it ends if it could not run


@pytest.mark.parametrize(
    ("source", "arguments", "says"),
    [
        ("", ["nowhere:app"], "nowhere cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("\n1 / 0\n", ["shop:app"], "shop cannot be imported: ZeroDivisionError: division by zero (shop.py, line 2)"),
        ("raise SystemExit(3)", ["shop:app"], "shop ended the program with 3 while it was imported"),
        ("", ["shop:app"], "shop has no app"),
        ("app = 1", ["shop:app"], "shop:app must be a FastAPI or Starlette app, got one of type int"),
        ("", ["shop.py"], "the app must be named as in app.main:app, got 'shop.py'"),
        ("", [], "there is no pyproject.toml here: name the app, as in app.main:app"),
        ("from fastapi import FastAPI\napp = FastAPI()", ["shop:app"], "shop:app has no RateLimits: its lifespan, "),
        (
            HEAD + "app = FastAPI(dependencies=[Depends(limits), Depends(RateLimits('5/s'))])\n"
            "app.add_api_route('/a', client_address.of)",
            ["shop:app"],
            "the limits of shop:app are invalid: this app has the limits of 2 RateLimits: make them all with one",
        ),
    ],
    ids=["no module", "raises", "exits", "no name", "no app", "no colon", "no pyproject", "no limits", "two"],
)
def test_what_it_cannot_list_is_exit_code_2_and_one_line_that_says_why(
    routes, source: str, arguments: list[str], says: str
):
    done = routes(source, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"sluicegate: {says}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tool.other]\n", "pyproject.toml names no app: name the app, as in app.main:app, or write entrypoint = "),
        ("tool = 1\n", "pyproject.toml names no app: "),
        ("[tool\n", "pyproject.toml cannot be read: "),
    ],
)
def test_a_pyproject_that_names_no_app_is_exit_code_2(routes, text: str, says: str):
    done = routes("", pyproject=text)
    assert done.returncode == 2
    assert done.stderr.startswith(f"sluicegate: {says}")


def test_without_the_extra_it_is_one_line_that_names_it():
    blocked = "import sys\nsys.modules.update({'fastapi': None})\nfrom sluicegate._cli.main import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", blocked, "routes", "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("sluicegate: the command routes needs more packages: pip install 'sluicegate[fastapi]'")


def test_it_ends_quietly_if_the_reader_of_its_output_is_gone(tmp_path: Path):
    Path(tmp_path, "shop.py").write_text(HEAD + APP)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "sluicegate", "routes", "shop:app"],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (0, b"")


# The service


def test_every_endpoint_of_the_service_is_limited_or_exempt():
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "sluicegate", "routes", "app.main:app", "--strict"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    listed = {line[1]: line[2:] for line in cells(done.stdout) if line and line[0] == "GET"}
    assert listed == {
        "/ping": ["sliding-window-60s", "10 in any minute", "user_id", "everywhere"],
        "/healthz": ["exempt"],
        "/readyz": ["exempt"],
        "/metrics": ["exempt"],
    }
