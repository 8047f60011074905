"""`--server`: one server, or several of the same model."""

import json
from pathlib import Path

import pytest

from evals import run
from evals.config.defaults import served_model
from evals.config.settings import ServerSettings
from tests.evals.config.test_presets import options, server
from tests.evals.fakes.scripted_run import Scripted, generate

__all__ = ["server"]


def servers_of(*arguments: str) -> ServerSettings:
    return run.parse_settings(arguments, run.METHODS).server


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("http://a", ("http://a",)),
        ("http://a:1,http://b:2/", ("http://a:1", "http://b:2")),
        ("http://a:1, https://b", ("http://a:1", "https://b")),
    ],
)
def test_servers_are_given_with_commas(text: str, urls: tuple[str, ...]) -> None:
    assert servers_of("--server", text).urls == urls


def test_without_a_url_a_server_is_started() -> None:
    assert servers_of().urls == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--server", "http://a,http://a/"), "--server is http://a,http://a/; each server may be"),
        (("--server", "http://a,"), "server URL is ''"),
        (("--server", ""), "server URL is ''"),
        (("--server", "http://a,b"), "server URL is 'b'"),
        (
            ("--server", "http://a,http://b", "--router", "http://c"),
            "--router passes requests on to its replicas, and --server is http://a,http://b; give "
            "one of them, or all without --router",
        ),
        (("--server", "http://a,http://b", "--model", "m"), "--model and --server are mutually"),
    ],
)
def test_servers_that_do_not_fit_together_get_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit):
        servers_of(*arguments)
    assert capsys.readouterr().err.startswith(f"error: {said}")


@pytest.mark.parametrize(
    ("text", "stored"),
    [("http://a", "http://a"), ("http://a,http://b/", "http://a,http://b"), (None, None)],
)
def test_the_servers_are_written_as_they_are_given(
    tmp_path: Path, scripted: Scripted, text: str | None, stored: str | None
) -> None:
    scripted(generate)
    limits = ("--methods", "eager_init", "--limit", "2", "--output-dir", str(tmp_path))
    assert run.main([*limits, *(("--server", text) if text else ())]) == 0
    assert json.loads((tmp_path / "config.json").read_text())["config"]["server"] == stored
    # Other servers of the same model continue a run.
    assert run.main([*limits, "--server", "http://x,http://y"]) == 0


def test_the_first_server_that_answers_has_the_model(server: str, tmp_path: Path) -> None:
    asked = options(server=f"http://127.0.0.1:9,{server}", api_key="sesame")
    assert served_model(asked, tmp_path, "bundled") == "openai/gpt-oss-20b"
