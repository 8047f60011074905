"""Options, ports, paths, variables and versions in `deploy` are those of the code."""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from sglang.srt.entrypoints import http_server
from sglang.srt.server_args import ServerArgs

from eager_sgl.engine.addresses import API_KEY_VARIABLE
from eager_sgl.server.app import create_app
from eager_sgl.server.settings import KEYS_VARIABLE, EndpointSettings, parser, settings_of
from tests.deploy.files import (
    COMPOSE,
    DOCKERFILE,
    FOLDER,
    KUBERNETES,
    PROMETHEUS,
    instructions,
    stage,
)

ROOT = FOLDER.parent
PROJECT: Any = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PORTS = {"sglang": 30000, "endpoint": 8000}
WITHOUT = {"sglang", "torch"}
"""What the image of the endpoint does not need."""
FOR_UVICORN = {"uvloop"}
"""What uvicorn uses where it is installed."""
OF_THE_ENDPOINT = {"google-re2", "httptools"}
"""What the plugin beside an SGLang server does not import."""


def pod(name: str) -> Any:
    """The specification of the pods of a workload."""
    kind = {"endpoint": "Deployment", "sglang": "StatefulSet"}[name]
    return KUBERNETES[kind, name]["spec"]["template"]["spec"]


def container(name: str) -> Any:
    (only,) = pod(name)["containers"]
    return only


def arguments(name: str, where: str) -> list[str]:
    """The whole command line of a service, after the module's name."""
    ((_, _, _, *always),) = instructions(name, "ENTRYPOINT")
    services = COMPOSE["services"]
    given = services[name]["command"] if where == "compose" else container(name)["args"]
    return [*always, *given]


def settings(where: str) -> EndpointSettings:
    parsed = parser("p").parse_args(arguments("endpoint", where))
    return settings_of(parsed, parsed.server.split(","))


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_the_endpoint_takes_its_options(where: str) -> None:
    chosen = settings(where)
    assert chosen.host == "0.0.0.0"
    assert chosen.port == PORTS["endpoint"]
    assert set(chosen.chat_defaults or ()) == {"temperature", "top_p", "top_k"}


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_sglang_takes_its_options(where: str) -> None:
    command = argparse.ArgumentParser()
    ServerArgs.add_cli_args(command)
    given = command.parse_args(arguments("sglang", where))
    assert given.host == "0.0.0.0"
    assert given.port == PORTS["sglang"]
    assert given.enable_metrics


def test_the_endpoint_names_every_server() -> None:
    servers = KUBERNETES["StatefulSet", "sglang"]["spec"]
    name = servers["serviceName"]
    assert ("Service", name) in KUBERNETES
    names = [f"http://sglang-{number}.{name}:30000" for number in range(servers["replicas"])]
    assert list(settings("kubernetes").servers) == names
    assert settings("compose").servers == ("http://sglang:30000",)


@pytest.mark.parametrize("name", PORTS)
def test_ports_are_the_same_everywhere(name: str) -> None:
    port = PORTS[name]
    assert instructions(name, "EXPOSE") == [[str(port)]]
    assert [item["containerPort"] for item in container(name)["ports"]] == [port]
    (service,) = KUBERNETES["Service", name]["spec"]["ports"]
    assert (service["port"], service["targetPort"]) == (port, port)
    targets = [job["static_configs"][0]["targets"] for job in PROMETHEUS["scrape_configs"]]
    assert [f"{name}:{port}"] in targets


@pytest.mark.parametrize("name", PORTS)
def test_probes_ask_for_routes_that_exist(name: str) -> None:
    app = create_app(EndpointSettings(servers=("http://x",))) if name == "endpoint" else None
    routes = {route.path for route in (app or http_server.app).routes if hasattr(route, "path")}
    probes = [value for key, value in container(name).items() if key.endswith("Probe")]
    asked = {(probe["httpGet"]["path"], probe["httpGet"]["port"]) for probe in probes}
    assert {port for _, port in asked} == {PORTS[name]}
    health = COMPOSE["services"][name].get("healthcheck") or {"test": stage(name)}
    local = re.findall(rf"http://127\.0\.0\.1:{PORTS[name]}(/\w+)", str(health["test"]))
    assert local
    assert {path for path, _ in asked} | set(local) <= routes


def test_the_endpoint_is_alive_by_health_and_ready_by_ready() -> None:
    paths = {
        kind: container("endpoint")[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("liveness", "readiness")
    }
    assert paths == {"liveness": "/health", "readiness": "/ready"}


def test_requests_may_finish_before_a_container_is_killed() -> None:
    (_, pause) = container("endpoint")["lifecycle"]["preStop"]["exec"]["command"]
    grace = pod("endpoint")["terminationGracePeriodSeconds"]
    assert grace >= settings("kubernetes").drain_s + int(pause) + 10
    seconds = int(COMPOSE["services"]["endpoint"]["stop_grace_period"].removesuffix("s"))
    assert seconds >= settings("compose").drain_s + 10


def test_keys_have_the_variables_that_are_read() -> None:
    names = {variable["name"] for variable in container("endpoint")["env"]}
    assert names == {API_KEY_VARIABLE, KEYS_VARIABLE}
    assert set(COMPOSE["services"]["endpoint"]["environment"]) == {KEYS_VARIABLE}


def test_versions_are_the_tested_ones() -> None:
    (pin,) = re.findall(r"^sglang==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    images = dict(re.findall(r"^FROM (\S+):v?(\S+) AS", DOCKERFILE, re.MULTILINE))
    assert images["lmsysorg/sglang"] == pin
    needed = {Requirement(line).name: Requirement(line) for line in PROJECT["dependencies"]}
    assert pin in needed["sglang"].specifier
    minimal = tuple(int(part) for part in PROJECT["requires-python"].strip(">=").split("."))
    assert tuple(map(int, images["python"].removesuffix("-slim").split("."))) >= minimal
    pods = [*pod("endpoint")["initContainers"], container("endpoint"), container("sglang")]
    assert {item["image"].rpartition(":")[2] for item in pods} == {PROJECT["version"]}


def test_the_image_has_the_projects_dependencies() -> None:
    lines = [words for words in instructions("endpoint", "RUN") if words[:2] == ["pip", "install"]]
    installed = {word for word in lines[0] if ">=" in word}
    added = {word for word in installed if Requirement(word).name in FOR_UVICORN}
    assert installed - added == {
        line for line in PROJECT["dependencies"] if Requirement(line).name not in WITHOUT
    }


def test_the_image_of_sglang_has_the_rest_of_them() -> None:
    """It is installed there without dependencies."""
    from importlib.metadata import requires

    theirs = {Requirement(line).name.lower() for line in requires("sglang") or []}
    ours = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert ours - {"sglang", *OF_THE_ENDPOINT} <= {name.replace("_", "-") for name in theirs}


@pytest.mark.parametrize("name", PORTS)
def test_what_is_copied_is_there_and_in_the_context(name: str) -> None:
    kept = {line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()}
    copied = [word for words in instructions(name, "COPY") for word in words[:-1]]
    assert {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "eager_sgl"} == set(
        copied
    )
    assert set(copied) <= kept
    assert all((ROOT / word).exists() for word in copied)


def test_compose_builds_the_stages() -> None:
    for name in PORTS:
        build = COMPOSE["services"][name]["build"]
        assert build == {"context": "..", "dockerfile": "deploy/Dockerfile", "target": name}
    mounted = COMPOSE["services"]["prometheus"]["volumes"][0].split(":")[0]
    assert (FOLDER / Path(mounted)).exists()
    assert instructions("endpoint", "USER") not in ([], [["root"]], [["0"]])
