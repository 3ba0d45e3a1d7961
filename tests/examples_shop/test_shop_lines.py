"""At most 15 lines of the shop are about limits, and the counting of them counts all that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lines_about_limits import lines_about_limits

SHOP = Path(__file__).parents[2] / "examples/fastapi_shop"


def test_at_most_15_lines_of_the_shop_are_about_limits():
    found = lines_about_limits(SHOP)
    listed = "\n".join(f"{file}:{number}: {text}" for (file, number), text in found.items())
    print(listed)
    assert 10 <= len(found) <= 15, listed
    for page in (SHOP / "README.md", SHOP.parent / "README.md"):
        assert re.search(rf"\b{len(found)} (lines of it|of its lines) are about limits", page.read_text()), page


def test_no_line_that_names_the_limits_is_left_out():
    found = lines_about_limits(SHOP)
    for path in SHOP.rglob("*.py"):
        for number, text in enumerate(path.read_text().splitlines(), 1):
            name = str(path.relative_to(SHOP))
            if "limits." in text and not name.startswith("tests/"):
                assert (name, number) in found, text


@pytest.mark.parametrize(
    ("source", "numbers"),
    [
        ("import sluicegate", {1}),
        ("from sluicegate import Limiter as L\nother = 1\nx = L(other)", {1, 3}),
        ("from .limits import (\n    limits,\n    total,\n)", {1, 2, 3, 4}),
        ("PLAN = '5/minute'\nname = 'minute'\nboth = [name, PLAN]", {1, 3}),
        ("app = FastAPI(\n    title='x',\n    lifespan=limits.lifespan,\n)\napp.run(app)", {3}),
        ("limits = RateLimits(\n    '5/minute',\n    strict=True,\n)", {1, 2, 3, 4}),
        ("mine = limits.limit(\n    per=who\n)\nwith_it = Depends(mine)\nplain = who\nx = with_it", {1, 2, 3, 4, 6}),
        (
            "@app.get('/')\n@limits.limit(\n    'x'\n)\ndef f(\n    a,\n    b=Depends(limits),\n):\n    return a",
            {2, 3, 4, 7},
        ),
        ("async def f(w):\n    a = 1\n    async for x in limits.messages(w):\n        print(x)", {3}),
        ("async def who():\n    '''Doc.'''\n\n    return 1\n\napp.use(limits.limit(per=who))", {1, 2, 3, 4, 6}),
        ("async def who():\n    return 1\n\napp.use(limits.limit(per=who))\napp.use(who)", {4}),
        ("def f():\n    try:\n        pass\n    except E:\n        limits.x()\n    else:\n        g(limits)", {5, 7}),
        ("if limits.enabled:\n    a = 1\nelse:\n    b = 2", {1}),
        ("class A:\n    x = limits\n    y = 1", {2}),
    ],
)
def test_what_is_counted(tmp_path: Path, source: str, numbers: set[int]):
    (tmp_path / "module.py").write_text(source)
    assert {number for _, number in lines_about_limits(tmp_path)} == numbers
