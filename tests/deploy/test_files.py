"""Options, ports, paths, variables and versions in `deploy` are those of the code."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

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

PARSE = """
import argparse, json, sys
from sglang.srt.server_args import ServerArgs

command = argparse.ArgumentParser()
ServerArgs.add_cli_args(command)
for arguments in json.load(sys.stdin):
    given = command.parse_args(arguments)
    facts = [given.host, given.port, given.enable_metrics, given.enable_cache_report]
    print("given", json.dumps(facts))
"""


@cache
def parsed_by_sglang() -> dict[str, list[Any]]:
    """Options of every command line, by the files; SGLang's import takes long."""
    places = ("compose", "kubernetes")
    asked = json.dumps([arguments("sglang", where) for where in places])
    command = [sys.executable, "-W", "ignore", "-c", PARSE]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line[6:] for line in done.stdout.splitlines() if line.startswith("given ")]
    return dict(zip(places, map(json.loads, lines), strict=True))


def routes(name: str) -> set[str]:
    """The paths of a service; SGLang's source has those of its server."""
    if name == "endpoint":
        app = create_app(EndpointSettings(servers=("http://x",)))
        return {route.path for route in app.routes if hasattr(route, "path")}
    found = importlib.util.find_spec("sglang")
    assert found is not None
    assert found.origin is not None
    source = Path(found.origin).with_name("srt") / "entrypoints/http_server.py"
    return set(
        re.findall(r"^@app\.(?:get|api_route)\(\s*\"([^\"]+)", source.read_text(), re.MULTILINE)
    )


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
    return settings_of(parser("p").parse_args(arguments("endpoint", where)))


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_the_endpoint_takes_its_options(where: str) -> None:
    chosen = settings(where)
    assert chosen.host == "0.0.0.0"
    assert chosen.port == PORTS["endpoint"]
    assert set(chosen.chat_defaults or ()) == {"temperature", "top_p", "top_k"}


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_sglang_takes_its_options(where: str) -> None:
    assert parsed_by_sglang()[where] == ["0.0.0.0", PORTS["sglang"], True, True]


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
    probes = [value for key, value in container(name).items() if key.endswith("Probe")]
    asked = {(probe["httpGet"]["path"], probe["httpGet"]["port"]) for probe in probes}
    assert {port for _, port in asked} == {PORTS[name]}
    health = COMPOSE["services"][name].get("healthcheck") or {"test": stage(name)}
    local = re.findall(rf"http://127\.0\.0\.1:{PORTS[name]}(/\w+)", str(health["test"]))
    assert local
    assert {path for path, _ in asked} | set(local) <= routes(name)


def test_probes_wait_for_sglangs_health() -> None:
    """Its handler sleeps for a second before it looks; a probe's timeout is a second by default."""
    probes = {key: value for key, value in container("sglang").items() if key.endswith("Probe")}
    assert set(probes) == {"startupProbe", "readinessProbe", "livenessProbe"}
    for kind, probe in probes.items():
        assert probe["httpGet"]["path"] == "/health", kind
        assert probe.get("timeoutSeconds", 1) > 1, kind
    assert int(COMPOSE["services"]["sglang"]["healthcheck"]["timeout"].removesuffix("s")) > 1


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
    pods = [container("endpoint"), container("sglang")]
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
def test_the_project_is_installed_from_the_context_and_its_source_is_on_no_image(name: str) -> None:
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    needed = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], PROJECT["name"]}
    assert kept == needed
    assert all((ROOT / word).exists() for word in kept)
    assert instructions(name, "COPY") == []
    (install,) = [words for words in instructions(name, "RUN") if "/src" in words]
    assert install[0] == "--mount=type=bind,target=/src"


def test_the_plugin_is_installed_in_the_python_of_the_system_also_where_that_is_guarded() -> None:
    """As Ubuntu's is since 24.04; and in the one that the image starts."""
    (install,) = instructions("sglang", "RUN")
    assert "--break-system-packages" in install
    ((python, *_),) = instructions("sglang", "ENTRYPOINT")
    assert install[1:4] == [python, "-m", "pip"]


def test_compose_builds_the_stages() -> None:
    for name in PORTS:
        build = COMPOSE["services"][name]["build"]
        assert build == {"context": "..", "dockerfile": "deploy/Dockerfile", "target": name}
    mounted = COMPOSE["services"]["prometheus"]["volumes"][0].split(":")[0]
    assert (FOLDER / Path(mounted)).exists()
    assert instructions("endpoint", "USER") not in ([], [["root"]], [["0"]])
