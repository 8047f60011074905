"""The preset of a model, and the values that a run takes from it."""

import argparse
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from eager_sgl.config import EagerConfig
from evals.config.defaults import choose_values, served_model
from evals.config.parse import parse_settings
from evals.config.presets import DEFAULT_THRESHOLD, PRESETS, Preset, find_preset, preset_for
from evals.config.settings import Settings
from evals.execution.methods import METHODS
from evals.tasks import find_task

FIXTURES = Path(__file__).parents[1] / "tasks" / "fixtures"
RUN = Path(__file__).parents[1] / "records" / "fixtures" / "run_0_1_0" / "auto"
GSM8K = ("--task", "gsm8k", "--dataset", str(FIXTURES / "gsm8k.jsonl"))
QWEN = "Qwen/Qwen3-4B"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("HuggingFaceTB/SmolLM3-3B", "smollm3-3b"),
        ("Qwen/Qwen3-4B", "qwen3-4b"),
        ("Qwen/Qwen3-4B-FP8", "qwen3-4b"),
        ("Qwen/Qwen3-4B-Thinking-2507", "qwen3-4b-thinking-2507"),
        ("/models/Qwen3-4B/", "qwen3-4b"),
        (
            "/hub/models--Qwen--Qwen3-4B/snapshots/1cfa9a7208912126459214e8b04321603b3df60c",
            "qwen3-4b",
        ),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "deepseek-r1-0528-qwen3-8b"),
        ("openai/gpt-oss-20b", "gpt-oss-20b"),
        ("unsloth/gpt-oss-20b-BF16", "gpt-oss-20b"),
    ],
)
def test_a_preset_matches_the_name_of_a_model(model: str, name: str) -> None:
    assert preset_for(model) is PRESETS[name]


@pytest.mark.parametrize(
    "model",
    [
        "Qwen/Qwen3-4B-Instruct-2507",
        "Qwen/Qwen3-4B-Base",
        "Qwen/Qwen3-14B",
        "HuggingFaceTB/SmolLM3-3B-Base",
        "openai/gpt-oss-120b",
        "evals/reasoner/model",
        "",
    ],
)
def test_other_models_have_no_preset(model: str) -> None:
    assert preset_for(model) is None


def test_every_preset_makes_a_valid_run() -> None:
    for preset in PRESETS.values():
        EagerConfig(threshold=preset.threshold, reasoning_end=preset.reasoning_end)
        assert 1.8 <= preset.threshold <= 2.7
        assert preset.context >= 32_768
        assert find_preset(preset.name) is preset
        json.dumps(preset.to_json() | {"options": preset.chat_options})


def settings(*arguments: str) -> Settings:
    return parse_settings(arguments, METHODS)


def test_a_preset_gives_the_values_that_the_command_line_leaves_open() -> None:
    chosen = settings(*GSM8K, "--model", "openai/gpt-oss-20b")
    config = chosen.experiment.config(chosen.plan.cells[-1])
    assert config.reasoning_end == "<|channel|>final<|message|>"
    assert (config.threshold, config.sampling.temperature, config.sampling.top_p) == (2.2, 1.0, 1.0)
    assert config.sampling.max_new_tokens == 32_768
    assert chosen.choices.chat_options == {"reasoning_effort": "high"}
    written = chosen.stored()
    assert written.preset == {"name": "gpt-oss-20b", "context": 131_072}
    assert written.chat_options == {"reasoning_effort": "high"}
    assert written.eager.reasoning_end == "<|channel|>final<|message|>"


def test_presets_request_the_longest_thinking_mode() -> None:
    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    for name in ("smollm3-3b", "qwen3-4b"):
        assert PRESETS[name].chat_options == thinking
    assert settings(*GSM8K, "--model", QWEN).stored().chat_options == thinking


def test_a_model_s_context_bounds_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Preset(name="small", pattern="small-1b", context=2048)
    monkeypatch.setitem(PRESETS, "small", small)
    assert settings(*GSM8K, "--model", "me/small-1B").choices.max_new_tokens == 2048
    given = settings(*GSM8K, "--model", "me/small-1B", "--max-new-tokens", "99").choices
    assert given.max_new_tokens == 99


def test_the_command_line_takes_precedence() -> None:
    given = ("--theta", "2.0", "--temperature", "0.9", "--top-p", "0.8", "--max-new-tokens", "99")
    overrides = (
        "--reasoning-end",
        "</done>",
        "--chat-options",
        '{"chat_template_kwargs": {"x": 1}}',
    )
    chosen = settings(*GSM8K, "--model", QWEN, *given, *overrides)
    config = chosen.experiment.config(chosen.plan.cells[-1])
    assert (config.threshold, config.sampling.temperature, config.sampling.top_p) == (2.0, 0.9, 0.8)
    assert (config.sampling.max_new_tokens, config.reasoning_end) == (99, "</done>")
    assert chosen.choices.chat_options == {"chat_template_kwargs": {"x": 1}}
    assert chosen.choices.threshold_origin == "given"


def test_a_preset_takes_precedence_over_the_task() -> None:
    chosen = settings("--limit", "1", "--model", QWEN)
    assert chosen.plan.thresholds == (PRESETS["qwen3-4b"].threshold,)
    assert not chosen.theta_is_foreign(QWEN)
    assert settings("--limit", "1", "--model", QWEN, "--preset", "none").theta_is_foreign(QWEN)


def test_a_preset_may_be_named_or_refused() -> None:
    named = settings(*GSM8K, "--model", "mine", "--preset", "gpt-oss-20b").choices
    assert named.preset is PRESETS["gpt-oss-20b"]
    without = settings(*GSM8K, "--model", QWEN, "--preset", "none").choices
    assert (without.preset, without.chat_options) == (None, {})


def test_an_unknown_model_runs_with_defaults_that_are_printed() -> None:
    chosen = settings(*GSM8K, "--model", "new/Model-7B").choices
    assert (chosen.threshold, chosen.threshold_origin) == (DEFAULT_THRESHOLD, "default")
    assert (chosen.temperature, chosen.top_p, chosen.reasoning.text) == ("0.6", 0.95, "</think>")
    line = chosen.describe("new/Model-7B")
    assert line.startswith("no preset for new/Model-7B: τ = 0.6, top-p = 0.95, θ = 2.2 (a default")
    assert "\n" not in line


def test_none_is_no_end_of_reasoning() -> None:
    assert settings(*GSM8K, "--reasoning-end", "none").experiment.base.reasoning_end is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "gpt-5"), "unknown preset 'gpt-5'; choose from smollm3-3b, "),
        (("--chat-options", "{"), "--chat-options is '{', which is not JSON"),
        (("--chat-options", "[1]"), "it must be an object in braces"),
        (("--dataset", "absent.jsonl"), "there is no dataset at absent.jsonl"),
        (("--task", "absent.jsonl"), "cannot read absent.jsonl"),
    ],
)
def test_wrong_values_get_one_sentence(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    start = () if "--task" in arguments else ("--task", "gsm8k")
    data = () if "--dataset" in arguments or "--task" in arguments else GSM8K[2:]
    with pytest.raises(SystemExit) as caught:
        settings(*start, *data, *arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


class Answering(BaseHTTPRequestHandler):
    """`/model_info` of a server with a key."""

    body: bytes = b'{"model_path": "openai/gpt-oss-20b"}'

    def do_GET(self) -> None:
        allowed = self.headers["Authorization"] == "Bearer sesame"
        self.send_response(200 if allowed and self.path == "/model_info" else 401)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    listening = HTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()


def options(**more: Any) -> argparse.Namespace:
    fields = {"server": None, "model": None, "api_key": None, "report_only": False}
    return argparse.Namespace(**fields | more)


def test_a_server_is_asked_for_its_model(server: str, tmp_path: Path) -> None:
    asked = options(server=server, api_key="sesame")
    assert served_model(asked, tmp_path, "bundled") == "openai/gpt-oss-20b"
    arguments = (*GSM8K, "--server", server, "--api-key", "sesame", "--output-dir", str(tmp_path))
    assert settings(*arguments).choices.preset is PRESETS["gpt-oss-20b"]


def test_without_an_answer_an_earlier_session_has_the_model(server: str, tmp_path: Path) -> None:
    refused = options(server=server, api_key="wrong")
    absent = options(server="http://127.0.0.1:9")
    for asked in (refused, absent):
        assert served_model(asked, tmp_path, "bundled") is None
    config = json.loads((RUN / "config.json").read_text()) | {"model": QWEN}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for asked in (refused, absent):
        assert served_model(asked, tmp_path, "bundled") == QWEN


def test_a_given_model_needs_no_server(tmp_path: Path) -> None:
    assert served_model(options(model="mine"), tmp_path, "bundled") == "mine"
    assert served_model(options(), tmp_path, "bundled") == "bundled"


def test_the_length_limit_stays_within_the_context() -> None:
    task = find_task("gsm8k", FIXTURES / "gsm8k.jsonl")
    names = ("theta", "temperature", "top_p", "max_new_tokens", "reasoning_end", "chat_options")
    empty = options(preset=None, **dict.fromkeys(names))
    for preset in PRESETS.values():
        empty.preset = preset.name
        assert choose_values(empty, task, None).max_new_tokens <= preset.context
