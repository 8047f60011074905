"""SGLang's `RuntimeEndpoint`, speaking tokens.

SGLang's frontend sends text, and text does not come back to the tokens it was decoded from: the
radix tree misses, and the sequence may change. This endpoint keeps the token ids of every state in
a variable, which `fork()` copies along, sends them as `input_ids`, and tokenises only text that was
added since. Any `@sgl.function` may run on it; what SGLang does by text alone (`sgl.select`,
streaming, images) needs a state whose tokens all come from its text.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from sglang.lang.backend.runtime_endpoint import RuntimeEndpoint
from sglang.lang.chat_template import get_chat_template_by_model_path
from sglang.lang.global_config import global_config
from sglang.lang.interpreter import ProgramState, StreamExecutor
from sglang.lang.ir import SglSamplingParams

from eager_sgl.config import EagerConfig, SamplingConfig
from eager_sgl.core import Generation
from eager_sgl.engine.addresses import API_KEY_VARIABLE
from eager_sgl.engine.checks import require_params, require_tokens
from eager_sgl.engine.gate.parameters import Gate
from eager_sgl.engine.limits import REQUEST_TIMEOUT, SILENCE_TIMEOUT, UNREPEATED
from eager_sgl.engine.probe import ServerProfile, is_stop_token, probe
from eager_sgl.engine.protocol import (
    Json,
    generate_payload,
    matched_stop_token,
    new_request_id,
    parse_generation,
    parse_score,
    parse_text_answer,
    texts_of,
    tokens_of,
)
from eager_sgl.engine.requests import Request, RequestHandle
from eager_sgl.engine.shapes import shown
from eager_sgl.engine.states import (
    FailedVariables,
    StateTokens,
    end_states_at_exit,
    failing_in_the_program,
    keep_tokens,
    known_tokens,
)
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import (
    BrokenAnswerError,
    RequestRejectedError,
    ServerError,
    ServerUnreachableError,
    ServerUnsuitableError,
)

__all__ = ["Prompt", "TokenEndpoint", "connect", "endpoint_of"]

Prompt = str | Sequence[int] | Sequence[Mapping[str, str]]
"""Plain text, token ids, or chat messages for the model's own template."""

_MAX_TEXTS_AT_ONCE = 64
_TEXT_OPTIONS = (
    "return_logprob",
    "logprob_start_len",
    "top_logprobs_num",
    "return_text_in_logprobs",
)


def connect(
    url: str,
    *,
    api_key: str | None = None,
    request_timeout: float = REQUEST_TIMEOUT,
    silence_timeout: float = SILENCE_TIMEOUT,
    chat_options: Mapping[str, Any] | None = None,
    router: str | None = None,
) -> TokenEndpoint:
    """Connect to a running SGLang server and check, with real requests, what branching needs.

    Args:
        url: base URL of the server.
        api_key: the one it was started with, if any; the environment's EAGER_SGL_API_KEY where it
            is not given.
        request_timeout: seconds in total for one request. A request for a sequence's tokens is then
            asked to stop: what it has decoded stays, and the rest is asked for anew.
        silence_timeout: seconds without any byte of an answer, with the same consequence. Requests
            that generate nothing have shorter limits of their own.
        chat_options: how the server renders chat messages: fields of its `/tokenize` such as
            `reasoning_effort`, and `chat_template_kwargs` with the template's own variables.
        router: base URL of SGLang's router, which passes generation on to the replica that holds
            a sequence's prefix; `url` is then any one of the replicas, for all that a router does
            not pass on.

    Raises:
        ValueError: the URL, the key or a limit cannot be one.
        ServerUnreachableError: nothing answers there.
        AuthenticationError: the API key is missing or wrong.
        ServerUnsuitableError: the radix cache does not serve `input_ids` prefixes.
    """
    transport = Transport(
        url,
        api_key=os.environ.get(API_KEY_VARIABLE) if api_key is None else api_key,
        request_timeout=request_timeout,
        silence_timeout=silence_timeout,
        router=router,
    )
    return TokenEndpoint(transport, chat_options=chat_options)


class TokenEndpoint(RuntimeEndpoint):  # type: ignore[misc]
    """A connected SGLang server; made by `connect`.

    Attributes:
        profile: what was found out about the server.
    """

    def __init__(
        self,
        transport: Transport,
        profile: ServerProfile | None = None,
        chat_options: Mapping[str, Any] | None = None,
    ) -> None:
        # RuntimeEndpoint's own constructor asks a deprecated route, through unpooled connections.
        self.support_concate_and_append = False
        self.base_url, self.api_key, self.verify = transport.url, transport.api_key, None
        self.profile = profile or probe(transport)
        self.model_info = {"model_path": self.profile.model_path}
        self.chat_template = get_chat_template_by_model_path(self.profile.model_path)
        self.transport = transport
        self._chat_options = dict(chat_options or {})
        self._markers: dict[str, tuple[int, ...]] = {}
        self._stops: dict[int, bool] = {}
        end_states_at_exit()

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """A prompt's token ids.

        Args:
            prompt: plain text; chat messages, which the model's own template renders with the
                assistant's turn opened; or token ids, which come back as they are.

        Raises:
            RequestRejectedError: chat messages, but the model has no chat template.
            ValueError: the prompt is empty.
        """
        if isinstance(prompt, str):
            ids = self._tokenize({"prompt": prompt}) if prompt else ()
        elif isinstance(prompt, Mapping):
            raise ValueError(f"the prompt is {shown(prompt)}; put a message into a list")
        elif isinstance(prompt, list | tuple) and any(isinstance(m, Mapping) for m in prompt):
            if wrong := [m for m in prompt if not isinstance(m, Mapping)]:
                raise ValueError(f"the prompt holds {shown(wrong[0])} among its chat messages")
            ids = self._tokenize({"messages": list(prompt), **self._chat_options})
        else:
            ids = self.require_known("the prompt", prompt)
        if not ids:
            raise ValueError("the prompt is empty; it needs at least one token")
        return ids

    def _tokenize(self, body: Json) -> tuple[int, ...]:
        return self.transport.post("/tokenize", lambda: body, tokens_of)

    def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """The texts of several token sequences, special tokens left out."""
        lists = [list(self.require_known("a sequence", ids)) for ids in sequences]
        body = {"tokens": lists, "skip_special_tokens": True}
        return self.transport.post(
            "/detokenize", lambda: body, partial(texts_of, number=len(lists))
        )

    def marker(self, text: str | None) -> tuple[int, ...]:
        """The tokens of a text that the model writes as a mark, such as `</think>`."""
        if not text:
            return ()
        if text not in self._markers:
            self._markers[text] = self._tokenize({"prompt": text, "add_special_tokens": False})
        return self._markers[text]

    def is_stop_token(self, token_id: int) -> bool:
        """Whether the model ends a sequence with this token; asked of the server once a token.

        Raises:
            ValueError: the model has no such token.
        """
        if token_id not in self._stops:
            self.require_known("the tokens asked about", (token_id,))
            self._stops[token_id] = is_stop_token(self.transport, token_id)
        return self._stops[token_id]

    def is_answering(self) -> bool:
        """Whether the server is there: one request with a short limit, which is not tried again."""
        return self.transport.is_answering()

    def require_known(self, what: str, token_ids: object) -> tuple[int, ...]:
        """Token ids of the model; what else a server is sent may end it.

        Raises:
            ValueError: they are something else; `what` names them.
        """
        return require_tokens(what, token_ids, self.profile.vocabulary_size)

    def top_k(self, top_k: int) -> int:
        """K, or the size of the vocabulary where that is smaller: then all tokens are known."""
        return min(top_k, self.profile.vocabulary_size)

    def room_for(self, num_prompt_tokens: int) -> int:
        """How many tokens a sequence may add to a prompt of this length, at least 1.

        Raises:
            RequestRejectedError: the context leaves no room for any.
        """
        room = self.profile.context_length - num_prompt_tokens
        if room < 1:
            raise RequestRejectedError(
                f"the prompt has {num_prompt_tokens} tokens, which leaves no room in the model's "
                f"context of {self.profile.context_length}"
            )
        return room

    # Requests for tokens, apart from any state

    def gate(self, config: EagerConfig) -> Gate | None:
        """The entropy gate for a configuration; None if chunks are to be monitored.

        Raises:
            ServerUnsuitableError: the configuration insists on the gate, and there is none.
        """
        if config.monitor == "chunk":
            return None
        if self.profile.no_gate is None:
            threshold = config.deferred_threshold or config.threshold
            return Gate(threshold, self.top_k(config.top_k), config.entropy_temperature)
        if config.monitor == "auto":
            return None
        raise ServerUnsuitableError(f"{self.base_url} has no entropy gate: {self.profile.no_gate}")

    def prefill(self, token_ids: tuple[int, ...]) -> Generation:
        """Put tokens into the radix tree."""
        request = Request(self.require_known("the prompt", token_ids), 0, SamplingConfig())
        return self.transport.post(
            "/generate",
            lambda: request.payload(new_request_id()),
            partial(parse_generation, logprob_temperature=1.0),
        )

    def start(
        self, request: Request, done: Callable[[Generation | Exception], None]
    ) -> RequestHandle:
        """Ask for tokens without waiting for them.

        Args:
            request: what is asked for; its tokens are `require_known` ones.
            done: gets what came or what went wrong, in a thread that must not be kept; of a
                request with a gate first, and any number of times, what has come so far. What came
                may be `interrupted`: then the rest was not generated, or was lost.

        Raises:
            ValueError: the request holds what no server must be sent.
        """
        params = {**request.params(), "top_logprobs_num": request.top_k}
        require_params(params, self.profile.vocabulary_size, len(request.token_ids))
        handle = RequestHandle()
        latest: Generation | None = None

        def build() -> Json:
            if handle.aborted:
                raise ServerError("the request was aborted before it was sent")
            handle.request_id = new_request_id()
            return request.payload(handle.request_id)

        def read(answer: object) -> Generation:
            num_known = len(latest.token_ids) if latest else 0
            return request.read(answer, self.profile.logprobs, num_known)

        def pass_on(generation: Generation) -> None:
            nonlocal latest
            latest = generation
            done(generation)

        def end(outcome: Generation | Exception) -> None:
            if isinstance(outcome, BrokenAnswerError) and latest is not None:
                outcome = replace(latest, interrupted=str(outcome))
            done(outcome)

        self.transport.start("/generate", build, read, end, pass_on)
        return handle

    def abort(self, handle: RequestHandle) -> None:
        """Ask the server to stop a request; its answer is then what had come by that time."""
        handle.aborted = True
        if handle.request_id:
            self.transport.notify("/abort_request", {"rid": handle.request_id})

    # Tokens of a state

    def token_ids(self, state: ProgramState) -> tuple[int, ...]:
        """The tokens of everything that a state holds so far."""
        state.sync()
        return self._tokens(state.stream_executor).ids

    def set_prompt(self, state: ProgramState, prompt: Prompt) -> None:
        """Begin a state with a prompt, token for token; its text holds what comes after it.

        Raises:
            ValueError: the state has begun already, or the prompt is empty.
        """
        if text := state.text():
            raise ValueError(f"the state holds {text!r}; a prompt can only be set on a new one")
        tokens = StateTokens(self.encode(prompt), "", from_text=False)
        keep_tokens(state.stream_executor, tokens)

    def append_tokens(self, state: ProgramState, token_ids: Sequence[int], text: str) -> None:
        """Put generated tokens and their text at the end of a state."""
        state.sync()
        tokens = self._tokens(state.stream_executor).extended(token_ids, text)
        tokens = replace(tokens, from_text=False)
        state += text
        state.sync()
        keep_tokens(state.stream_executor, tokens)

    def _tokens(self, s: StreamExecutor) -> StateTokens:
        known = known_tokens(s)
        if known is None or (known.from_text and not s.text_.startswith(known.text)):
            known = StateTokens(self.encode(s.text_), s.text_)
        elif not s.text_.startswith(known.text):
            raise RequestRejectedError(
                f"the state's text no longer begins with {known.text!r}, whose tokens it goes on "
                "from; a state that began with set_prompt can only be appended to"
            )
        elif added := s.text_[len(known.text) :]:
            ids = self._tokenize({"prompt": added, "add_special_tokens": False})
            known = replace(known, ids=(*known.ids, *ids), text=s.text_)
        keep_tokens(s, known)
        return known

    # What SGLang's interpreter calls, from the worker thread of the state

    def generate(
        self, s: StreamExecutor, sampling_params: SglSamplingParams
    ) -> tuple[str | list[str], Json | list[Json]]:
        """One `sgl.gen`, on the state's tokens.

        With `n` above 1 the variable and its meta information are lists of n, and the state goes
        on from the first.
        """
        with failing_in_the_program(s):
            num = _num_wanted(sampling_params, only_one="with images" if s.images_ else None)
            if s.images_:
                self._require_text(s, "images")
                self._require_params(s, sampling_params)
                with _asked_by_sglang("sgl.gen with images"):
                    return super().generate(s, sampling_params)  # type: ignore[no-any-return]
            self._handle_dtype_to_regex(sampling_params)
            answers = self._ask_for_texts(s, sampling_params, num)
            self._append_answer(s, answers[0])
            texts, infos = zip(*((a["text"], a["meta_info"]) for a in answers), strict=True)
            return (texts[0], infos[0]) if num == 1 else (list(texts), list(infos))

    def generate_stream(self, s: StreamExecutor, sampling_params: SglSamplingParams) -> Any:
        """As SGLang does it, from the state's text."""
        with failing_in_the_program(s):
            _num_wanted(sampling_params, only_one="in a stream")
            self._require_text(s, "streaming")
            self._require_params(s, sampling_params)
        return self._stream(s, super().generate_stream(s, sampling_params))

    def select(self, s: StreamExecutor, *arguments: Any) -> Any:
        """As SGLang does it, from the state's text."""
        with failing_in_the_program(s):
            self._require_text(s, "sgl.select")
            return super().select(s, *arguments)

    def _generate_http_request(self, s: StreamExecutor, data: Json) -> Json | list[Json]:
        """How `select` has texts scored: each in a request of its own, which routers want."""
        self._add_images(s, data)
        name = "text" if "text" in data else "input_ids"
        if isinstance(data[name], str):
            return self._score(data)
        return [self._score(data | {name: each}) for each in data[name]]

    def _score(self, data: Json) -> Json:
        return self.transport.post(
            "/generate",
            lambda: data | {"rid": new_request_id()},
            partial(parse_score, has_logprobs="return_logprob" in data),
        )

    def _stream(self, s: StreamExecutor, pieces: Iterator[Any]) -> Iterator[Any]:
        with failing_in_the_program(s), _asked_by_sglang("streaming"):
            yield from pieces

    def _require_params(self, s: StreamExecutor, sampling_params: SglSamplingParams) -> None:
        options = {name: getattr(sampling_params, name) for name in _TEXT_OPTIONS}
        params = {**sampling_params.to_srt_kwargs(), **options}
        require_params(params, self.profile.vocabulary_size, len(self._tokens(s).ids))

    def _require_text(self, s: StreamExecutor, what: str) -> None:
        if not self._tokens(s).from_text:
            raise RequestRejectedError(
                f"{what} works on text alone, and this state began with set_prompt or holds a "
                "sequence of continue_from; begin it with text"
            )

    def end_program(self, s: StreamExecutor) -> None:
        """Called when a state ends: waits for its worker thread.

        SGLang's states end again when they are deleted, and ask a thread that nobody has joined
        whether it lives. Where the garbage collector deletes them while another thread starts,
        CPython 3.11 deadlocks on that question; of a joined thread it is answered without a lock.

        Raises:
            Exception: a fork has failed, and the program does not know yet. (SGLang's `join` would
                gather the variables of the others as if they were all.)
        """
        if s.use_thread and s.worker is not threading.current_thread():
            s.worker.join()
        is_fork, variables = s.fork_start_text_pos is not None, s.variables
        if is_fork and isinstance(variables, FailedVariables) and not variables.is_raised:
            variables.fail()

    def commit_lazy_operations(self, s: StreamExecutor) -> None:
        """Called before a fork of several: puts the state's tokens into the radix tree."""
        with failing_in_the_program(s):
            if not s.images_:
                self._prefill(s)
                return
            with _asked_by_sglang("a fork with images"):
                super().commit_lazy_operations(s)

    def _prefill(self, s: StreamExecutor) -> None:
        tokens = self._tokens(s)
        if tokens.num_prefilled < len(tokens.ids) - 1:
            self._post_generate(tokens, {"max_new_tokens": 0})
            keep_tokens(s, replace(tokens, num_prefilled=len(tokens.ids)))

    def _handle_dtype_to_regex(self, sampling_params: SglSamplingParams) -> None:
        # SGLang appends to the stop strings, whatever they are.
        stop = sampling_params.stop
        sampling_params.stop = [stop] if isinstance(stop, str) else list(stop or ())
        super()._handle_dtype_to_regex(sampling_params)

    def _ask_for_texts(
        self, s: StreamExecutor, sampling_params: SglSamplingParams, num: int
    ) -> list[Json]:
        """Several at once, each in a request of its own, which all find the prefix cached."""
        if num == 1:
            return [self._ask_for_text(self._tokens(s), sampling_params)]
        self._prefill(s)
        tokens, params = self._tokens(s), replace(sampling_params, n=1)
        with ThreadPoolExecutor(min(num, _MAX_TEXTS_AT_ONCE)) as pool:
            return list(pool.map(lambda _: self._ask_for_text(tokens, params), range(num)))

    def _ask_for_text(self, tokens: StateTokens, sampling_params: SglSamplingParams) -> Json:
        params = {
            "skip_special_tokens": global_config.skip_special_tokens_in_output,
            "spaces_between_special_tokens": global_config.spaces_between_special_tokens_in_out,
            **sampling_params.to_srt_kwargs(),
        }
        options = {name: getattr(sampling_params, name) for name in _TEXT_OPTIONS}
        return self._post_generate(tokens, params, options)

    def _append_answer(self, s: StreamExecutor, answer: Json) -> None:
        tokens, text, ids = self._tokens(s), answer["text"], answer["output_ids"]
        if matched_stop_token(answer) is not None:
            keep_tokens(s, tokens.extended(ids[:-1], text))
        elif answer["meta_info"]["finish_reason"]["type"] == "length":
            keep_tokens(s, tokens.extended(ids, text))
        # A stop string cuts the text somewhere inside a token: then the text is tokenised anew,
        # behind the tokens that were there before.

    def _post_generate(
        self,
        tokens: StateTokens,
        params: Mapping[str, object],
        options: Mapping[str, object] | None = None,
    ) -> Json:
        given = {k: v for k, v in (options or {}).items() if v is not None}
        self.require_known("the state", tokens.ids)
        require_params({**params, **given}, self.profile.vocabulary_size, len(tokens.ids))
        return self.transport.post(
            "/generate",
            lambda: generate_payload(tokens.ids, params, request_id=new_request_id()) | given,
            parse_text_answer,
            patience=UNREPEATED,
        )


@contextlib.contextmanager
def _asked_by_sglang(what: str) -> Iterator[None]:
    """Name the faults of requests that SGLang's own endpoint sends."""
    try:
        yield
    except OSError as error:
        raise ServerUnreachableError(f"{what} cannot reach the server: {error}") from error
    except RuntimeError as error:
        raise ServerError(f"the server refused {what}: {error}") from error


def _num_wanted(sampling_params: SglSamplingParams, only_one: str | None = None) -> int:
    """The `n` of an `sgl.gen`.

    Args:
        only_one: where it may be 1 only, in words.

    Raises:
        ValueError: it is no number of texts, or above what is possible here.
    """
    num = sampling_params.n
    if type(num) is not int or num < 1:
        raise ValueError(f"n of sgl.gen is {num!r}; it must be a whole number of at least 1")
    if only_one and num > 1:
        raise ValueError(f"n of sgl.gen is {num}; {only_one} it can only be 1")
    return num


def endpoint_of(state: ProgramState) -> TokenEndpoint:
    """The endpoint that a state runs on.

    Raises:
        ValueError: it runs on another backend.
    """
    backend = state.stream_executor.backend
    if not isinstance(backend, TokenEndpoint):
        raise ValueError(
            f"the program runs on {type(backend).__name__}; give backend=eager_sgl.connect(url)"
        )
    return backend
