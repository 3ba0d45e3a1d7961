"""Parsing targets: files, modules and URLs, and the errors for anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate.proof.target import InvalidTarget, at_port, parse, service


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
        "http://{key}.host/",
        "http://host/#{key}",
        "http://host/{key}#{key}",
        "http://host:99999/{key}",
        "http:///{key}",
        "file:///etc/{key}",
    ],
)
def test_any_other_url_is_rejected(url: str):
    with pytest.raises(InvalidTarget, match=r"--http must be a URL with \{key\} in its path or query"):
        service(url)


@pytest.mark.parametrize(
    "request_",
    [
        {"url": "http://host/", "headers": ["X-User: {key}"]},
        {"url": "http://host/", "body": '{"user": "{key}"}'},
        {"url": "http://host/", "body": "user={key}", "headers": ["content-type: application/x-www-form-urlencoded"]},
        {"url": "http://host/{key}/{key}", "method": "put", "headers": ["A: 1", "A-B: 2"]},
    ],
)
def test_a_key_may_stand_anywhere_in_a_request(request_: dict):
    assert service(**request_).is_service


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (
            {"url": "http://host/ping"},
            "{key} must stand for the key in the URL of --http, in a --header or in the --body",
        ),
        ({"url": "http://u:hunter2@host/{key}"}, "send them with --header 'Authorization: Basic ...'"),
        ({"headers": ["hunter2"]}, "--header number 1 must be 'Name: value'"),
        ({"headers": ["A: 1", "X User: hunter2"]}, "--header number 2 must be 'Name: value'"),
        ({"headers": ["X-User: hunter2\r\nX: 1"]}, "the value of --header 'X-User' must be printable ASCII"),
        ({"headers": ["X-User: hunter2\u00e9"]}, "the value of --header 'X-User' must be printable ASCII"),
        ({"headers": ["content-length: 3"]}, "--header must not be content-length: the kit sets it"),
        ({"method": "GET /"}, "--method must be a method of HTTP, such as POST, got 'GET /'"),
        ({"body": '{"user": {key}}'}, "--body must be JSON with {key} inside quotes"),
        ({"body": "user=1", "headers": ["Content-Type: application/json"]}, "--body must be JSON"),
        ({"body": "\ud800", "headers": ["Content-Type: text/plain"]}, "--body must be text in UTF-8"),
        ({"url": "http://host:{port}/{key}"}, "must both contain {port}"),
        ({"serve": "app"}, "must both contain {port}"),
        ({"serve": "app {port}"}, "must both contain {port}"),
    ],
)
def test_an_invalid_request_is_rejected_without_its_secrets(request_: dict, says: str):
    with pytest.raises(InvalidTarget) as refused:
        service(**{"url": "http://host/{key}"} | request_)
    assert says in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("name", ["Authorization", "cookie", "X-Api-Key", "X-Auth-Token", "My-Session", "X-Signature"])
def test_the_name_of_a_service_shows_its_request_without_secrets(name: str):
    target = service("http://host/{key}", body="{}", headers=["Accept: */*", f"{name}: hunter2"])
    assert target.name == f"POST http://host/{{key}} Accept: */* {name}: ***"
    assert ("headers", [("Accept", "*/*"), (name, "hunter2")]) in target.where.items()


def test_a_service_that_is_started_gets_its_port_and_says_what_it_takes():
    target = service("http://127.0.0.1:{port}/{key}", serve="app {port} {redis}")
    assert (target.takes_redis, target.takes_limit) == (True, False)
    assert service("http://h:{port}/{key}", serve="app {port} {limit} {window}").takes_limit
    assert not service("http://h:{port}/{key}", serve="app {port} {limit}").takes_limit
    assert at_port(target, 81).where["url"] == "http://127.0.0.1:81/{key}"
