"""The command line, and what importing the server loads."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import eager_sgl
from eager_sgl.core import Sequence
from eager_sgl.server.__main__ import _serve
from eager_sgl.server.app import create_app
from eager_sgl.server.settings import (
    KEYS_VARIABLE,
    EndpointSettings,
    parser,
    runtime_arguments,
    settings_of,
)

ROOT = Path(eager_sgl.__path__[0])


def test_the_defaults_of_the_command_are_those_of_the_settings() -> None:
    settings = settings_of(parser("p").parse_args(["--server", "http://u"]))
    assert settings == type(settings)(servers=("http://u",))


def test_keys_are_read_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys").write_text("one\ntwo\n")
    monkeypatch.setenv(KEYS_VARIABLE, "three,four")
    arguments = ["--server", "http://u"]
    assert settings_of(parser("p").parse_args(arguments)).keys == ("three", "four")
    arguments += ["--keys-file", str(tmp_path / "keys")]
    assert settings_of(parser("p").parse_args(arguments)).keys == ("one", "two")


@pytest.mark.parametrize("text", ["\n", " ", ",", " , "])
def test_keys_that_are_given_without_one_admit_nobody(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--server", "http://u"]
    monkeypatch.setenv(KEYS_VARIABLE, text)
    with pytest.raises(ValueError, match=f"{KEYS_VARIABLE} has no key"):
        settings_of(parser("p").parse_args(arguments))
    monkeypatch.setenv(KEYS_VARIABLE, "")  # as compose.yaml passes on a variable that is not set
    assert settings_of(parser("p").parse_args(arguments)).keys == ()
    for content in (text, ""):
        (tmp_path / "keys").write_text(content)
        arguments[2:] = ["--keys-file", str(tmp_path / "keys")]
        with pytest.raises(ValueError, match="keys has no key"):
            settings_of(parser("p").parse_args(arguments))


@pytest.mark.parametrize(("keys", "says"), [((), True), (("a",), False)])
def test_the_log_says_where_no_key_is_asked_for(
    keys: tuple[str, ...], says: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    create_app(EndpointSettings(servers=("http://a",), keys=keys))
    assert ("no key is asked for" in caplog.text) == says


def test_the_rest_of_the_command_line_is_the_embedded_servers() -> None:
    words = ["--reasoning-parser", "qwen3", "--tp-size=2", "--enable-metrics", "--load", '{"a":1}']
    assert runtime_arguments(words) == {
        "reasoning_parser": "qwen3",
        "tp_size": 2,
        "enable_metrics": True,
        "load": {"a": 1},
    }
    with pytest.raises(ValueError, match="'word' follows no option"):
        runtime_arguments(["word"])


@pytest.mark.parametrize(
    "option",
    [
        "--max-requests=0",
        *("--deadline=-1", "--deadline=inf", "--drain=0", "--drain=inf", "--drain=nan"),
        *("--top-k=1", "--top-k=129"),
        *("--threshold=-1", "--threshold=0", "--threshold=3", "--threshold=nan"),
        *("--chat-default=top_p", "--chat-default=top-p=0.9", "--chat-default=top_p=nan"),
        *("--chat-default=top_p=1.5", "--chat-default=temperature=inf"),
        *("--chat-default=top_k=0", "--chat-default=repetition_penalty=0"),
    ],
)
def test_wrong_values_are_refused_by_name(option: str) -> None:
    with pytest.raises(ValueError, match=option.partition("=")[0]):
        settings_of(parser("p").parse_args(["--server", "http://u", option]))


def test_defaults_of_chats_are_read() -> None:
    words = ["--chat-default=top_k=20", "--chat-default=top_p=0.95", "--chat-default=min_p=0"]
    chosen = settings_of(parser("p").parse_args(["--server", "http://u", *words]))
    assert chosen.chat_defaults == {"top_k": 20, "top_p": 0.95, "min_p": 0}


def test_servers_are_read_with_blanks_and_slashes() -> None:
    given = parser("p").parse_args(["--server", "http://a:1, http://b:2/"])
    assert settings_of(given).servers == ("http://a:1", "http://b:2")


@pytest.mark.parametrize("servers", ["", "http://a,", "a", "http://a,http://a/"])
def test_wrong_servers_are_refused_before_it_listens(servers: str) -> None:
    """An endpoint in front of none would never be ready."""
    command = [sys.executable, "-m", "eager_sgl.server", "--server", servers]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "server URL is" in done.stderr or "each server may be given once" in done.stderr


def test_a_short_drain_is_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr("uvicorn.run", lambda app, **options: seen.update(options))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    _serve(EndpointSettings(servers=("http://u",), drain_s=0.3))
    assert seen["timeout_graceful_shutdown"] == 1


@pytest.mark.parametrize("words", [["--server", "http://u", "--tp-size", "2"], []])
def test_options_of_sglang_need_an_embedded_server(words: list[str]) -> None:
    command = [sys.executable, "-m", "eager_sgl.server", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert ("--tp-size" if words else "--server --model") in done.stderr


def test_importing_the_application_loads_no_sglang() -> None:
    code = "import sys, eager_sgl.server.app; print(sorted({'sglang', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_else_in_the_library_imports_the_server() -> None:
    paths = [path for path in ROOT.rglob("*.py") if ROOT / "server" not in path.parents]
    assert len(paths) > 50
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("eager_sgl.server"), path


def test_readers_of_answers_are_imported() -> None:
    words = ["--answers", "upper=builtins:str.upper", "--answers=x=os:fspath"]
    given = parser("p").parse_args(["--server", "http://u", *words])
    readers = settings_of(given).limits.readers
    assert readers["upper"](Sequence((), (), "stop", final_text="ab")) == "AB"
    assert set(readers) == {"upper", "x"}


@pytest.mark.parametrize(
    "option",
    ["boxed=os:fspath", "x=os", "x y=os:fspath", "x=os:nothing", "x=no_module:f", "x=sys:path"],
)
def test_readers_that_cannot_be_used_are_refused_by_name(option: str) -> None:
    with pytest.raises(ValueError, match=r"--answers is|answer reader 'x'"):
        settings_of(parser("p").parse_args(["--server", "http://u", "--answers", option]))
