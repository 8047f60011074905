"""A scripted SGLang server over HTTP with OpenAI's routes, and our server in front of it."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from eager_sgl.engine.protocol import Json
from eager_sgl.errors import RequestRejectedError
from eager_sgl.server.app import create_app
from eager_sgl.server.settings import EndpointSettings
from eager_sgl.server.traffic.guard import while_connected
from tests.fakes.scripted import ScriptedServer

__all__ = ["address_of", "endpoint", "listening", "upstream"]

MODEL = "scripted"


@contextmanager
def listening(app: FastAPI, port: int = 0) -> Iterator[str]:
    """The URL of an application in a thread."""
    config = uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started, "the application has not started"
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


def address_of(process: subprocess.Popen[str]) -> str:
    """The URL that uvicorn reports on a process's standard error."""
    assert process.stderr is not None
    log = ""
    while line := process.stderr.readline():
        log += line
        if "running on " in line:
            return line.partition("running on ")[2].split()[0]
    raise AssertionError(log)


@contextmanager
def endpoint(server: ScriptedServer, **settings: Any) -> Iterator[str]:
    """The URL of our server in front of a scripted one."""
    given: Any = {"chat_defaults": {}} | settings
    with (
        listening(upstream(server)) as url,
        listening(create_app(EndpointSettings(servers=(url,), **given))) as ours,
    ):
        yield ours


def upstream(server: ScriptedServer, cached_tokens: int | None = None) -> FastAPI:
    """The routes of an SGLang server; `app.state.bodies` has the bodies of OpenAI's routes.

    Args:
        cached_tokens: of prompts of OpenAI's routes; None for a server that does not report them.
    """
    app = FastAPI()
    app.state.bodies = []
    details = None if cached_tokens is None else {"cached_tokens": cached_tokens}

    @app.get("/{path:path}")
    async def get(path: str) -> Json:
        answer = server.answer(f"/{path}")
        return answer | {"served_model_name": MODEL} if path == "model_info" else answer

    @app.post("/abort_request")
    async def abort(request: Request) -> Response:
        await server.notify("/abort_request", await request.json())
        return Response()

    @app.post("/v1/{route:path}")
    async def own(request: Request, route: str) -> Response:
        body = await request.json()
        app.state.bodies.append(body)
        if body.get("temperature") == 1.5:
            return JSONResponse({"message": "the message of SGLang"}, 400)
        is_chat = route == "chat/completions"
        if body.get("stream"):
            return StreamingResponse(_own_events(server, body, details, is_chat=is_chat))
        work = _own_answer(server, body, details, is_chat=is_chat)
        answer = while_connected(request.receive, work)
        return JSONResponse(await answer)

    @app.post("/{path:path}")
    async def post(request: Request, path: str) -> Response:
        body = await request.json()
        if body.get("stream"):
            return StreamingResponse(_events(server, body), media_type="text/event-stream")
        try:
            return JSONResponse(await server.post(f"/{path}", lambda: body))
        except RequestRejectedError as error:
            return JSONResponse({"error": {"message": str(error)}}, 400)

    return app


async def _events(server: ScriptedServer, body: Json) -> AsyncIterator[bytes]:
    parts: asyncio.Queue[Json | None] = asyncio.Queue()

    async def run() -> None:
        parts.put_nowait(await server.post("/generate", lambda: body, progress=parts.put_nowait))
        parts.put_nowait(None)

    task = asyncio.create_task(run())
    try:
        while (part := await parts.get()) is not None:
            yield b"data: " + orjson.dumps(part) + b"\n\n"
        yield b"data: [DONE]\n\n"
    finally:
        task.cancel()


def _sampling(body: Json) -> Json:
    names = ("temperature", "top_p")
    given = {name: body[name] for name in names if body.get(name) is not None}
    length = body.get("max_tokens") or body.get("max_completion_tokens") or 16
    return given | {"max_new_tokens": length, "stop_token_ids": []}


async def _sequence(server: ScriptedServer, body: Json) -> Json:
    request: Json = {"input_ids": list(server.prompt), "sampling_params": _sampling(body)}
    request["rid"] = uuid.uuid4().hex
    answer: Json = await server.post("/generate", lambda: request)
    asked = {"tokens": [answer["output_ids"]], "skip_special_tokens": True}
    return answer | {"text": server.answer("/detokenize", asked)["text"][0]}


def _choice(index: int, answer: Json, *, is_chat: bool, is_part: bool) -> Json:
    text = answer["text"]
    message = {"role": "assistant", "content": text}
    content = {"delta" if is_part else "message": message} if is_chat else {"text": text}
    reason = answer["meta_info"]["finish_reason"]["type"]
    return {"index": index, "finish_reason": reason, "logprobs": None} | content


def _usage(server: ScriptedServer, answers: list[Json], details: Json | None) -> Json:
    prompt, completion = len(server.prompt), sum(len(a["output_ids"]) for a in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
    }


def _frame(kind: str, choices: list[Json]) -> Json:
    return {"id": "1", "object": kind, "created": 1, "model": MODEL, "choices": choices}


async def _own_answer(
    server: ScriptedServer, body: Json, details: Json | None, *, is_chat: bool
) -> Json:
    answers = await asyncio.gather(*(_sequence(server, body) for _ in range(body["n"])))
    choices = [_choice(i, a, is_chat=is_chat, is_part=False) for i, a in enumerate(answers)]
    kind = "chat.completion" if is_chat else "text_completion"
    return _frame(kind, choices) | {"usage": _usage(server, answers, details)}


async def _own_events(
    server: ScriptedServer, body: Json, details: Json | None, *, is_chat: bool
) -> AsyncIterator[bytes]:
    kind = "chat.completion.chunk" if is_chat else "text_completion"
    answers = []
    for index in range(body["n"]):
        answers.append(await _sequence(server, body))
        chunk = _frame(kind, [_choice(index, answers[-1], is_chat=is_chat, is_part=True)])
        yield b"data: " + orjson.dumps(chunk) + b"\n\n"
    usage = _frame(kind, []) | {"usage": _usage(server, answers, details)}
    yield b"data: " + orjson.dumps(usage) + b"\n\ndata: [DONE]\n\n"
