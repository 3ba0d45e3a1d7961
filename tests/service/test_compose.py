"""The compose files, read as an engine reads them: what is open, what a container may do, and whom it trusts."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import image
import pytest
import redis
import yaml
from processes import ROOT, within
from redis.backoff import NoBackoff
from redis.retry import Retry

import servers
from app.config import Settings

FILES = {
    path.name: yaml.safe_load(path.read_text()) for path in (ROOT / "docker-compose.yml", ROOT / "deploy/compose.yaml")
}
FLEET = FILES["compose.yaml"]
SERVICES: dict[str, dict[str, Any]] = FLEET["services"]
INSTANCES = ("one", "two")
CONF = (ROOT / "deploy/nginx.conf").read_text()
INSTRUCTIONS = {each.name: each for each in image.instructions((ROOT / "Dockerfile").read_text())}
"""Of the last stage, if there are several of a name."""

# With ids of more than a word: one that is a kind of server is left out of runs on other servers.
each_service = pytest.mark.parametrize("name", SERVICES, ids=lambda name: f"the service {name}")
each_instance = pytest.mark.parametrize("name", INSTANCES)


@pytest.mark.parametrize("file", FILES)
def test_ports_are_open_on_loopback_alone(file: str):
    ports = [port for service in FILES[file]["services"].values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_only_the_proxy_can_be_reached_from_outside_and_redis_reaches_nothing():
    assert [name for name, service in SERVICES.items() if "ports" in service or "network_mode" in service] == ["proxy"]
    assert FLEET["networks"]["back"]["internal"] is True
    assert list(SERVICES["redis"]["networks"]) == ["back"]
    assert list(SERVICES["proxy"]["networks"]) == ["front"]


@each_service
def test_a_container_writes_nothing_and_gains_nothing(name: str):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(service)
    assert service["mem_limit"]
    user = INSTRUCTIONS["USER"].text if "build" in service else service["user"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert [mount for mount in service.get("volumes", []) if not mount.endswith(":ro")] == []


@each_service
def test_an_image_is_built_here_or_pinned_to_a_minor_version(name: str):
    service = SERVICES[name]
    if "build" in service:
        assert (ROOT / "deploy" / service["build"]["context"] / "Dockerfile").is_file()
    else:
        assert re.fullmatch(r"[a-z]+:\d+\.\d+-alpine", service["image"])


@each_instance
def test_an_instance_is_set_up_with_settings_that_there_are_and_counts_on_redis(name: str):
    variables = set(SERVICES[name]["environment"]) - {"FORWARDED_ALLOW_IPS"}
    assert variables <= {setting.upper() for setting in Settings.model_fields}
    assert SERVICES[name]["environment"]["RATE_LIMIT_BACKEND"] == "redis"
    assert SERVICES[name]["environment"] == SERVICES["one"]["environment"]


@each_instance
def test_the_defaults_are_those_of_the_service(name: str):
    for variable, value in SERVICES[name]["environment"].items():
        default = re.fullmatch(r"\$\{\w+:-(.*)\}", value)
        if default:
            ours = Settings.model_fields[variable.lower()].default
            assert default[1] == ("" if ours in (None, {}) else str(ours))


@each_instance
def test_an_instance_has_time_to_drain_before_it_is_killed(name: str):
    grace = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    delay, finish = (Settings.model_fields[f"drain_{part}_seconds"].default for part in ("delay", "grace"))
    assert delay + finish + 5 <= grace
    assert delay + finish + 5 <= 10  # the time that `docker stop` gives by default


def test_each_starts_after_what_it_needs_is_healthy_and_all_of_that_has_a_health_check():
    needs = {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    assert needs == {"proxy": {"one", "two"}, "one": {"redis"}, "two": {"redis"}, "redis": set()}
    for service in SERVICES.values():
        assert all(need == {"condition": "service_healthy"} for need in service.get("depends_on", {}).values())
    assert "/readyz" in INSTRUCTIONS["HEALTHCHECK"].text
    assert SERVICES["redis"]["healthcheck"]["test"]


def test_the_instances_trust_the_proxy_alone_and_no_other_container_can_get_its_address():
    (subnet,) = (ipaddress.ip_network(each["subnet"]) for each in FLEET["networks"]["front"]["ipam"]["config"])
    addresses = {
        name: service["networks"]["front"]["ipv4_address"]
        for name, service in SERVICES.items()
        if "front" in service["networks"]
    }
    assert {SERVICES[name]["environment"]["FORWARDED_ALLOW_IPS"] for name in INSTANCES} == {addresses["proxy"]}
    assert len(set(addresses.values())) == 3
    _gateway, *hosts = map(str, subnet.hosts())
    assert set(addresses.values()) <= set(hosts)
    (of_others,) = (ipaddress.ip_network(each["ip_range"]) for each in FLEET["networks"]["front"]["ipam"]["config"])
    assert of_others.subnet_of(subnet)
    assert not any(ipaddress.ip_address(address) in of_others for address in addresses.values())


def test_the_proxy_serves_its_port_and_knows_the_instances_by_name_and_port():
    (port,) = (port.rpartition(":")[2] for port in SERVICES["proxy"]["ports"])
    assert re.findall(r"listen (\d+);", CONF) == [port]
    exposed = INSTRUCTIONS["EXPOSE"].text
    assert re.findall(r"^ +server (\w+:\d+) ", CONF, re.MULTILINE) == [f"{name}:{exposed}" for name in INSTANCES]
    assert exposed in INSTRUCTIONS["CMD"].arguments
    entrypoint = SERVICES["proxy"]["entrypoint"]
    (mount,) = SERVICES["proxy"]["volumes"]
    host, inside, _ = mount.split(":")
    assert (ROOT / "deploy" / host).is_file()
    assert entrypoint[entrypoint.index("-c") + 1] == inside
    writable = [place.partition(":")[0] for place in SERVICES["proxy"]["tmpfs"]]
    assert writable == [entrypoint[entrypoint.index("-p") + 1]]


@pytest.fixture
def redis_of_compose(tmp_path: Path) -> Iterator[int]:
    """Run the command of the service redis, on another port."""
    if not shutil.which("redis-server"):
        pytest.skip("NOT CHECKED, the command of redis in deploy/compose.yaml: no redis-server")
    service, port = SERVICES["redis"], servers.free_port()
    (script,) = service["command"]
    script = script.replace("$$", "$").replace("dir /tmp", f"dir {tmp_path}\nbind 127.0.0.1\nport {port}")
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "REDIS_PASSWORD": "hunter2"}
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([*service["entrypoint"], script], env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            assert within(lambda: b"Ready to accept" in (tmp_path / "log").read_bytes() or process.poll() is not None)
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert "hunter2" not in Path(f"/proc/{process.pid}/cmdline").read_text()
            yield port
        finally:
            process.terminate()


def test_redis_asks_for_the_password_and_evicts_nothing(redis_of_compose: int):
    with redis.Redis(port=redis_of_compose, password="hunter2", decode_responses=True) as client:
        settings = client.config_get("maxmemory-policy", "maxmemory", "save", "appendonly")
    assert settings == {
        "maxmemory-policy": "noeviction",
        "maxmemory": str(256 * 1024 * 1024),
        "save": "",
        "appendonly": "no",
    }
    once = Retry(NoBackoff(), 0)
    with redis.Redis(port=redis_of_compose, retry=once) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


@pytest.mark.skipif(not shutil.which("redis-cli"), reason="NOT CHECKED, the health check of redis: no redis-cli")
@pytest.mark.parametrize(("password", "healthy"), [("hunter2", True), ("wrong", False), ("", False)])
def test_redis_is_healthy_if_its_password_is_taken(redis_of_compose: int, password: str, healthy: bool):
    kind, check = SERVICES["redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    check = check.replace("redis-cli", f"redis-cli -p {redis_of_compose}")
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "REDISCLI_AUTH": password}
    assert (subprocess.run(["sh", "-c", check], env=environment, check=False, timeout=60).returncode == 0) is healthy
