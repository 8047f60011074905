"""The end of reasoning by the chat template of a folder, or as a server renders conversations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from jinja2 import Template

from evals.config.reasoning import HARMONY_END, THINK_END, end_in, template_of
from evals.config.settings import BUNDLED_MODEL
from tests.evals.config.test_presets import settings

PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
OPENING = PLAIN + "<think>\n"
STRIPPING = PLAIN.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
SWITCHED = PLAIN + "{% if not thinking %}<think>\n\n</think>\n\n{% endif %}"
CHANNELS = (
    "{% for m in messages %}<|start|>{{ m.role }}<|channel|>final<|message|>{{ m.content }}"
    "{% endfor %}<|start|>assistant"
)
TEMPLATES = {
    PLAIN: None,
    OPENING: THINK_END,
    STRIPPING: THINK_END,
    SWITCHED: THINK_END,
    CHANNELS: HARMONY_END,
}
TASK = ("--task", "countdown", "--limit", "1")


def folder_of(path: Path, template: str) -> Path:
    (path / "chat_template.jinja").write_text(template)
    return path


@pytest.mark.parametrize(("template", "end"), TEMPLATES.items())
def test_the_template_of_a_folder_shows_the_end(
    tmp_path: Path, template: str, end: str | None
) -> None:
    model = str(folder_of(tmp_path, template))
    choices = settings(*TASK, "--model", model).choices
    assert choices.reasoning.text == end == end_in(template)
    assert (choices.reasoning.note is None) == (end == THINK_END)
    if end is None:
        expected = f"reasoning end: none; the chat template of {model} shows no reasoning section"
        assert (choices.reasoning.note or "").startswith(expected)


@pytest.mark.parametrize(
    ("written", "end"),
    [
        (PLAIN, None),
        ([{"name": "a", "template": PLAIN}, {"name": "b", "template": OPENING}], THINK_END),
    ],
)
def test_the_template_may_be_in_the_configuration_of_the_tokenizer(
    tmp_path: Path, written: object, end: str | None
) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": written}))
    template = template_of(str(tmp_path))
    assert template is not None
    assert end_in(template) == end


def test_a_model_without_a_template_has_the_default(tmp_path: Path) -> None:
    assert template_of(str(tmp_path)) is None
    assert settings(*TASK, "--model", str(tmp_path)).choices.reasoning.text == THINK_END


def test_the_bundled_model_reasons() -> None:
    assert end_in(template_of(str(BUNDLED_MODEL)) or "") == THINK_END
    assert settings(*TASK).choices.reasoning.note is None


def test_a_given_end_takes_precedence(tmp_path: Path) -> None:
    model = ("--model", str(folder_of(tmp_path, PLAIN)))
    assert settings(*TASK, *model, "--reasoning-end", "</r>").choices.reasoning.text == "</r>"
    folder_of(tmp_path, OPENING)
    given = settings(*TASK, *model, "--reasoning-end", "none").choices.reasoning
    assert (given.text, given.note) == (None, None)


class Rendering(BaseHTTPRequestHandler):
    """A server that renders messages by a template; its tokens are characters."""

    template = PLAIN

    def do_GET(self) -> None:
        self.reply({"model_path": "some/Model-1B"})

    def do_POST(self) -> None:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            options = body.get("chat_template_kwargs", {})
            text = Template(self.template).render(messages=body["messages"], **options)
            self.reply({"tokens": [ord(character) for character in text]})
        else:
            assert body["skip_special_tokens"] is False
            self.reply({"text": ["".join(map(chr, ids)) for ids in body["tokens"]]})

    def reply(self, answer: Mapping[str, object]) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def rendering() -> Iterator[str]:
    listening = HTTPServer(("127.0.0.1", 0), Rendering)
    Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()


@pytest.mark.parametrize(("template", "end"), TEMPLATES.items())
def test_a_server_that_renders_conversations_shows_the_end(
    rendering: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    template: str,
    end: str | None,
) -> None:
    monkeypatch.setattr(Rendering, "template", template)
    where = ("--server", rendering, "--output-dir", str(tmp_path))
    assert settings(*TASK, *where).choices.reasoning.text == end


@pytest.mark.parametrize("thinking", ["true", "false"])
def test_a_model_that_can_think_is_a_reasoning_model(
    rendering: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thinking: str
) -> None:
    """Its prompt shows nothing while thinking is on."""
    monkeypatch.setattr(Rendering, "template", SWITCHED)
    options = ("--chat-options", f'{{"chat_template_kwargs": {{"thinking": {thinking}}}}}')
    where = ("--server", rendering, "--output-dir", str(tmp_path))
    assert settings(*TASK, *where, *options).choices.reasoning.text == THINK_END


def test_a_server_that_does_not_render_leaves_the_end_of_the_run_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(__file__).parents[1] / "records" / "fixtures" / "run_0_1_0" / "auto"
    config = json.loads((run / "config.json").read_text())
    config["config"]["eager"]["reasoning_end"] = None
    (tmp_path / "config.json").write_text(json.dumps(config))
    where = ("--server", "http://127.0.0.1:9", "--output-dir", str(tmp_path))
    assert settings(*TASK, *where).choices.reasoning.text is None
