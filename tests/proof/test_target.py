"""Parsing targets: files, modules and URLs, and the errors for anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate.proof.target import InvalidTarget, parse, service


def test_a_file_and_a_module_are_distinguished(tmp_path: Path):
    path = tmp_path / "limiter.py"
    path.touch()
    assert parse(f"{path}:Limiter").where == {"file": str(path), "name": "Limiter"}
    assert parse("package.module:make").where == {"module": "package.module", "name": "make"}
    assert parse(f"{path}:Limiter").file == path
    assert parse("package.module:make").file is None


@pytest.mark.parametrize(
    "text", ["", "limiter", "limiter.py", "missing.py:Limiter", "a:b-c", "a b:c", "module:", ":name"]
)
def test_text_in_another_form_is_rejected_with_the_accepted_forms(text: str):
    with pytest.raises(InvalidTarget, match=r"file\.py:Name, package\.module:name, or --http"):
        parse(text)


@pytest.mark.parametrize("text", ["limiter.mjs:allow", "limiter.go", "src/limiter.xyz:allow", "{folder}/limiter.py2:A"])
def test_a_file_in_another_language_is_rejected_with_advice(tmp_path: Path, text: str):
    (tmp_path / "limiter.py2").touch()
    text = text.format(folder=tmp_path)
    place = text.partition(":")[0]
    with pytest.raises(InvalidTarget) as refused:
        parse(text)
    assert str(refused.value) == (
        f"{place!r} is not a Python file: grade its service with --http, or record a history and judge it"
    )


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/ping?user_id={key}", "https://host/{key}", "http://[::1]:80/users/{key}/ping"]
)
def test_a_service_is_a_url_with_a_place_for_the_key(url: str):
    assert service(url).is_service


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1/{key}",
        "ftp://host/{key}",
        "http://host/ping",
        "http://{key}.host/",
        "http://host/{key}/{key}",
        "http://host/#{key}",
        "http://host:99999/{key}",
        "http:///{key}",
        "file:///etc/{key}",
    ],
)
def test_any_other_url_is_rejected(url: str):
    with pytest.raises(InvalidTarget, match=r"--http must be a URL with \{key\} once"):
        service(url)
