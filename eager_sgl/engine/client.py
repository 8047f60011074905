"""The token client of a server: tokens, texts and facts of its model, without SGLang's frontend."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

from eager_sgl.config import SamplingConfig
from eager_sgl.core import Generation
from eager_sgl.engine.checks import require_params, require_tokens
from eager_sgl.engine.gate.choice import GateChoice
from eager_sgl.engine.limits import ROUTER_STREAM_INTERVAL, UNREPEATED
from eager_sgl.engine.loop import leave, spawn
from eager_sgl.engine.pace import Pace
from eager_sgl.engine.probe import ServerProfile, is_stop_token, probe
from eager_sgl.engine.protocol import (
    Json,
    generate_payload,
    new_request_id,
    parse_generation,
    texts_of,
    tokens_of,
)
from eager_sgl.engine.requests import Request, RequestHandle, Submission
from eager_sgl.engine.shapes import shown
from eager_sgl.engine.text_answers import TextAnswer, parse_score, parse_text_answer
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import BrokenAnswerError, ServerUnsuitableError
from eager_sgl.plugin.vocabulary import Gate

__all__ = ["Observing", "Prompt", "TokenClient"]

_T = TypeVar("_T")
_MAX_MARKERS = 256
"""Texts whose tokens are kept; those of probes may come from the clients of a service."""

Prompt = str | Sequence[int] | Sequence[Mapping[str, str]]
"""Plain text, token ids, or chat messages for the model's own template."""


class Observing(Protocol):
    """How a method observes steps."""

    @property
    def top_k(self) -> int:
        """K, of an observed step; 0 if none is observed."""

    @property
    def requires_gate(self) -> bool:
        """Whether its steps may be observed by the gate alone."""

    def gate(self, top_k: int) -> Gate | None:
        """What the server is to report; None if chunks are to be requested."""


class TokenClient:
    """Requests to one server in token ids.

    Args:
        transport: sends the requests.
        profile: of the server.
        chat_options: fields of `/tokenize` for chat messages, such as `reasoning_effort`.

    Attributes:
        pace: tokens per second of a running sequence.
    """

    def __init__(
        self,
        transport: Transport,
        profile: ServerProfile,
        chat_options: Mapping[str, object] | None = None,
    ) -> None:
        self.transport = transport
        self.profile = profile
        self.pace = Pace()
        self._chat_options = dict(chat_options or {})
        self._markers: dict[str, tuple[int, ...]] = {}
        self._stop_tokens: dict[int, bool] = {}
        self._asked: dict[tuple[object, ...], asyncio.Task[Any]] = {}

    @classmethod
    async def connect(
        cls,
        transport: Transport,
        chat_options: Mapping[str, object] | None = None,
        gate: GateChoice = "auto",
    ) -> TokenClient:
        """A client of a server that was probed with real requests.

        Args:
            transport, chat_options: of the client.
            gate: the entropy gates that may be used: with "auto" the server's plugin, with "pickle"
                a processor that is sent to servers without the plugin, too.

        Raises:
            ServerUnsuitableError: the radix cache does not serve `input_ids` prefixes.
            ServerError: the server does not answer, or not as SGLang does.
        """
        return cls(transport, await probe(transport, gate), chat_options)

    # Tokens and texts

    async def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """A prompt's token ids.

        Args:
            prompt: plain text; chat messages, which the model's own template renders with the
                assistant's turn opened; or token ids, which are returned as they are.

        Raises:
            RequestRejectedError: chat messages, but the model has no chat template.
            ValueError: the prompt is empty.
        """
        if isinstance(prompt, str):
            ids = await self._tokenize({"prompt": prompt}) if prompt else ()
        elif isinstance(prompt, Mapping):
            raise ValueError(f"the prompt is {shown(prompt)}; put a message into a list")
        elif isinstance(prompt, list | tuple) and any(isinstance(m, Mapping) for m in prompt):
            if wrong := [m for m in prompt if not isinstance(m, Mapping)]:
                raise ValueError(f"the prompt holds {shown(wrong[0])} among its chat messages")
            ids = await self._tokenize({"messages": list(prompt), **self._chat_options})
        else:
            ids = self.require_known("the prompt", prompt)
        if not ids:
            raise ValueError("the prompt is empty; it needs at least one token")
        return ids

    async def encode_more(self, text: str) -> tuple[int, ...]:
        """Token ids of text inside a prompt: no special tokens are added at its start."""
        return await self._tokenize({"prompt": text, "add_special_tokens": False})

    async def _tokenize(self, body: Json) -> tuple[int, ...]:
        return await self.transport.post("/tokenize", lambda: body, tokens_of)

    async def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """The texts of several token sequences, special tokens left out."""
        known = [self.require_known("a sequence", ids) for ids in sequences]
        return await self.decode_known(known)

    async def decode_known(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """The texts of token sequences that the model has generated, special tokens left out."""
        if not sequences:  # SGLang would answer with one text, not with a list
            return []
        body = {"tokens": sequences, "skip_special_tokens": True}
        return await self.transport.post(
            "/detokenize", lambda: body, partial(texts_of, number=len(sequences))
        )

    async def marker(self, text: str | None) -> tuple[int, ...]:
        """The tokens of a marker in the model's output, such as `</think>`."""
        if not text:
            return ()
        if text in self._markers:
            return self._markers[text]
        self._markers[text] = tokens = await self._once(text, lambda: self.encode_more(text))
        if len(self._markers) > _MAX_MARKERS:
            del self._markers[next(iter(self._markers))]
        return tokens

    async def _once(self, key: object, ask: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """The answer to a question that several tasks may have at the same time."""
        place = os.getpid(), asyncio.get_running_loop(), key
        if place not in self._asked:
            self._asked[place] = task = spawn(ask())
            task.add_done_callback(lambda _: self._asked.pop(place))
            leave(task)  # all that asked may have been cancelled
        # A task that stops waiting leaves the question to the others.
        answer: _T = await asyncio.shield(self._asked[place])
        return answer

    # Facts of the model

    async def is_answering(self) -> bool:
        """Whether the server is up: one request with a short timeout, which is not repeated."""
        return await self.transport.is_answering()

    async def is_stop_token(self, token_id: int) -> bool:
        """Whether the model ends a sequence with this token; one request per token.

        Raises:
            ValueError: the model has no such token.
        """
        if token_id not in self._stop_tokens:
            self.require_known("the token", (token_id,))
            self._stop_tokens[token_id] = await self._once(
                token_id, lambda: is_stop_token(self.transport, token_id)
            )
        return self._stop_tokens[token_id]

    def require_known(self, noun: str, token_ids: object) -> tuple[int, ...]:
        """Token ids of the model; others may kill the server.

        Args:
            noun: for them in the error.
            token_ids: a sequence of integers.

        Raises:
            ValueError: the value is not a sequence of the model's token ids.
        """
        return require_tokens(noun, token_ids, self.profile.vocabulary_size)

    def top_k(self, top_k: int) -> int:
        """K, capped at the size of the vocabulary."""
        return min(top_k, self.profile.vocabulary_size)

    def gate(self, method: Observing) -> Gate | None:
        """The gate of a method; None if its steps are observed by chunks, or not at all.

        Raises:
            ServerUnsuitableError: the method requires the gate, and the server has none for it.
        """
        gate, reason = self.find_gate(method)
        if reason is not None and method.requires_gate:
            raise ServerUnsuitableError(f"{self.transport.url} has no entropy gate: {reason}")
        return gate

    def find_gate(self, method: Observing) -> tuple[Gate | None, str | None]:
        """The gate of a method, and why the server has none, in a clause.

        Both are None for a method that asks for no gate.
        """
        try:
            gate = method.gate(self.top_k(method.top_k))
        except ValueError as error:
            return None, str(error)
        reason = None if gate is None else self.profile.why_not(gate)
        return (gate if reason is None else None), reason

    # Requests for tokens

    async def prefill(self, token_ids: tuple[int, ...]) -> Generation:
        """Put tokens into the radix tree."""
        request = Request(self.require_known("the prompt", token_ids), 0, SamplingConfig())
        return await self.transport.post(
            "/generate",
            lambda: request.payload(new_request_id()),
            partial(parse_generation, logprob_temperature=1.0),
        )

    async def generate(
        self,
        request: Request,
        handle: RequestHandle,
        receive: Callable[[Generation], None] = lambda generation: None,
    ) -> Generation:
        """Wait for the tokens that continue a path.

        Args:
            request: its tokens are `require_known` ones.
            handle: names the request, for `abort`.
            receive: called with incomplete answers, of a request that is a stream.

        Returns:
            The answer; it may be `interrupted`: the rest was not generated, or was lost.

        Raises:
            ValueError: a parameter of the request is outside its range.
            ServerError: no part of an answer has arrived.
        """
        params = {**request.params(), "top_logprobs_num": request.top_k}
        require_params(params, self.profile.vocabulary_size, len(request.token_ids))
        if self._is_to_be_streamed(request):
            request = replace(request, stream_interval=ROUTER_STREAM_INTERVAL)
        submission = Submission(request, self.profile.logprobs, handle, receive)
        try:
            return await self.transport.post(
                "/generate",
                submission.build,
                submission.read,
                submission.receive,
                may_be_partial=True,
            )
        except BrokenAnswerError as error:
            assert submission.latest is not None, "an answer breaks off after a part of it"
            return replace(submission.latest, interrupted=str(error))

    def _is_to_be_streamed(self, request: Request) -> bool:
        """Whether a request needs parts, so that an abort behind a router keeps some of them.

        Only the gate's plugin gets the interval through a router; other servers would send a part
        for every token.
        """
        can_stream = self.transport.has_router and self.profile.gate == "plugin"
        return can_stream and request.stream_interval is None and not request.top_k

    async def abort(self, handle: RequestHandle) -> None:
        """Stop a request, which answers with the tokens so far; see `Transport.abort`."""
        handle.aborted = True
        if handle.request_id:
            await self.transport.abort(handle.request_id)

    # Requests for texts

    async def generate_text(
        self,
        token_ids: tuple[int, ...],
        params: Mapping[str, object],
        options: Mapping[str, object] | None = None,
    ) -> TextAnswer:
        """Wait for the text that continues a path.

        Args:
            token_ids: the path.
            params: sampling parameters by SGLang's names.
            options: further fields of `/generate`; None stands for "not given".

        Raises:
            ValueError: a token or a parameter is outside its range.
        """
        given = {name: value for name, value in (options or {}).items() if value is not None}
        self.require_known("the state", token_ids)
        require_params({**params, **given}, self.profile.vocabulary_size, len(token_ids))
        return await self.transport.post(
            "/generate",
            lambda: generate_payload(token_ids, params, request_id=new_request_id()) | given,
            parse_text_answer,
            patience=UNREPEATED,
        )

    async def score(self, body: Json) -> Json:
        """The answer to a request for a text's logprobs, as SGLang's `select` sends it."""
        return await self.transport.post(
            "/generate",
            lambda: body | {"rid": new_request_id()},
            partial(parse_score, has_logprobs="return_logprob" in body),
        )
