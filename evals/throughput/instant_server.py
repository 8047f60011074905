"""A server that answers at once, for `evals/bench.py --client-only`: no model, only the protocol.

Every prompt grows to 32 sequences, which then are monitored to their ends: the first five steps
branch on every sequence. The gate also reports a step after every 512 tokens, twice as often as the
paper's peaks occur (the 99.9th percentile of a sequence).
"""

from __future__ import annotations

import asyncio
import base64
import functools
import math
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import numpy as np
import orjson

from eager_sgl.engine.protocol import Json
from eager_sgl.plugin.blocks import pack_steps
from eager_sgl.plugin.vocabulary import KEY, Gate

__all__ = ["NUM_BRANCHING_STEPS", "PROMPT", "instant_server"]

PROMPT = (9,) * 8
NUM_BRANCHING_STEPS = 5
TOKENS_PER_REPORT = 512
NUM_TOP = 20
TAKEN = 3


@contextmanager
def instant_server() -> Iterator[str]:
    """The URL of the server, which runs in another process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(connection: Connection) -> None:
    asyncio.run(_listen(connection))


async def _listen(connection: Connection) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Answers, "127.0.0.1", 0, backlog=4096)
    connection.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class _Answers(asyncio.Protocol):
    """HTTP as far as our client uses it."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (head_end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:head_end]
            _, _, rest = head.partition(b"Content-Length: ")
            end = head_end + 4 + int(rest.partition(b"\r\n")[0] or 0)
            if len(self._received) < end:
                return
            path, body = head.split(b" ", 2)[1], self._received[head_end + 4 : end]
            self._received = self._received[end:]
            answer = _answer(path.decode(), body)
            kind = b"text/event-stream" if answer.startswith(b"data") else b"application/json"
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
                % (kind, len(answer), answer)
            )


def _answer(path: str, body: bytes) -> bytes:
    if path == "/generate":
        return _generate(orjson.loads(body))
    if path == "/tokenize":
        return b'{"tokens": [5, 6]}'
    if path == "/detokenize":
        return orjson.dumps({"text": ["" for _ in orjson.loads(body)["tokens"]]})
    return b'{"model_path": "instant"}'


def _generate(body: Json) -> bytes:
    params, num_sent = body["sampling_params"], len(body["input_ids"])
    start, number = num_sent - len(PROMPT), params["max_new_tokens"]
    if bias := params.get("logit_bias"):
        return _fixed(1, 0, 0).replace(b"3", next(iter(bias)).encode(), 1) % (1, 0)
    num_branching = max(0, min(number, NUM_BRANCHING_STEPS - start))
    if body.get("stream"):
        reported = {
            *range(num_branching),
            *range(-start % TOKENS_PER_REPORT, number, TOKENS_PER_REPORT),
        }
        gate = Gate.parse(params["custom_params"])
        assert gate is not None, "a stream has a gate"
        return _stream(number, num_branching, tuple(sorted(reported)[: gate.max_reports])) % (
            num_sent,
            num_sent - 1,
        )
    fixed = _fixed(number, num_branching, body.get("top_logprobs_num", 0))
    return fixed % (num_sent, num_sent - 1)


@functools.cache
def _fixed(number: int, num_branching: int, num_top: int) -> bytes:
    distributions = _distributions(number, num_branching, num_top) if num_top else {}
    return _answer_to(number, "length", distributions)


@functools.cache
def _stream(number: int, num_branching: int, reported: tuple[int, ...]) -> bytes:
    """An event for the first token, one for each step that the gate reports, and the last one."""
    blocks = [_block(step, is_branch=step < num_branching) for step in reported]
    pieces: list[tuple[int, list[str]]] = [(1, [])] if 0 not in reported else []
    pieces += [(step + 1, blocks[: index + 1]) for index, step in enumerate(reported)]
    events = [_answer_to(n, None, {KEY: known}, counts="0") for n, known in pieces]
    last = _answer_to(number, "length", {KEY: blocks})
    return b"".join(b"data: %s\n\n" % event for event in (*events, last, b"[DONE]"))


def _answer_to(number: int, end: str | None, more: Json, counts: str = "%d") -> bytes:
    """An answer in which %d stands for the numbers of tokens sent and cached."""
    reason = end and {"type": end}
    meta = {"finish_reason": reason, "prompt_tokens": -1, "cached_tokens": -2} | more
    answer = {"output_ids": [TAKEN] * number, "text": "", "meta_info": meta}
    text = orjson.dumps(answer).replace(b"%", b"%%").replace(b":-1", f":{counts}".encode(), 1)
    return text.replace(b":-2", f":{counts}".encode(), 1)


def _block(step: int, *, is_branch: bool) -> str:
    """The plugin's report of a step."""
    ids = np.arange(TAKEN, TAKEN + NUM_TOP, dtype=np.int32)[None]
    logprobs = np.full((1, NUM_TOP), -math.log(NUM_TOP) if is_branch else -20.0, np.float32)
    if not is_branch:
        logprobs[0, 0] = 0.0
    return pack_steps([step], ids, logprobs)


def _distributions(number: int, num_branching: int, num_top: int) -> Json:
    values = np.full((number, num_top), -20.0, np.float32)
    values[:, 0] = 0.0
    values[:num_branching] = -np.log(num_top)
    ids = np.tile(np.arange(TAKEN, TAKEN + num_top, dtype=np.int32), (number, 1))
    return {
        "output_token_logprobs": [[-0.5, TAKEN, None]] * number,
        "output_top_logprobs_val_flat_b64": base64.b64encode(values.tobytes()).decode(),
        "output_top_logprobs_idx_flat_b64": base64.b64encode(ids.tobytes()).decode(),
        "output_top_logprobs_val_flat_b64_dtype": "float32",
        "output_top_logprobs_idx_flat_b64_dtype": "int32",
        "output_top_logprobs_shape": [number, num_top],
    }
