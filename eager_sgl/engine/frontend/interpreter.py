"""Hooks of SGLang's interpreter, on token ids.

The features of SGLang that need text (`sgl.select`, streaming, images) require a state whose tokens
all come from its text.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sglang.lang.backend.runtime_endpoint import RuntimeEndpoint
from sglang.lang.chat_template import get_chat_template_by_model_path
from sglang.lang.global_config import global_config
from sglang.lang.interpreter import StreamExecutor
from sglang.lang.ir import SglSamplingParams

from eager_sgl.engine.checks import require_params
from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.frontend.states import append_answer, keep_tokens, require_text, tokens_in
from eager_sgl.engine.frontend.workers import end_states_at_exit, end_worker, raising_in_program
from eager_sgl.engine.loop import run
from eager_sgl.engine.protocol import Json, logprob_temperature
from eager_sgl.engine.text_answers import LOGPROB_TEMPERATURE, TextAnswer
from eager_sgl.errors import ServerError, ServerUnreachableError

__all__ = ["InterpreterBackend"]

_TEXT_OPTIONS = (
    "return_logprob",
    "logprob_start_len",
    "top_logprobs_num",
    "return_text_in_logprobs",
)


class InterpreterBackend(RuntimeEndpoint):  # type: ignore[misc]
    """A backend that SGLang's interpreter calls, in the worker thread of a state.

    Args:
        client: sends the requests, in the thread of the connections.
    """

    def __init__(self, client: TokenClient) -> None:
        # RuntimeEndpoint's constructor requests a deprecated route, through unpooled connections.
        transport = client.transport
        self.client, self.profile = client, client.profile
        self.support_concate_and_append = False
        self.base_url, self.api_key, self.verify = transport.url, transport.api_key, None
        self.model_info = {"model_path": self.profile.model_path}
        self.chat_template = get_chat_template_by_model_path(self.profile.model_path)
        end_states_at_exit()

    def generate(
        self, s: StreamExecutor, sampling_params: SglSamplingParams
    ) -> tuple[str | list[str], Json | list[Json]]:
        """The text of an `sgl.gen`, and its meta information.

        With `n` above 1 both are lists of n, and the state continues from the first text.
        """
        with raising_in_program(s):
            num = _num_texts(sampling_params, only_one="with images" if s.images_ else None)
            if s.images_:
                self._require_text_and_params(s, sampling_params, "images")
                with _errors_of_sglang("sgl.gen with images"):
                    return super().generate(s, sampling_params)  # type: ignore[no-any-return]
            self._handle_dtype_to_regex(sampling_params)
            answers = self._answers(s, sampling_params, num)
            append_answer(s, self.client, answers[0])
            if sampling_params.return_logprob:
                self._note_temperature(answers, sampling_params.temperature)
            if num == 1:
                return answers[0].text, answers[0].meta_info
            return [answer.text for answer in answers], [answer.meta_info for answer in answers]

    def _answers(
        self, s: StreamExecutor, sampling_params: SglSamplingParams, num: int
    ) -> list[TextAnswer]:
        """Several texts in concurrent requests, which all find the prefix cached."""
        if num > 1:
            self._prefill_state(s)
        ids = tokens_in(s, self.client).ids
        params = {
            "skip_special_tokens": global_config.skip_special_tokens_in_output,
            "spaces_between_special_tokens": global_config.spaces_between_special_tokens_in_out,
            **replace(sampling_params, n=1).to_srt_kwargs(),
        }
        options = _text_options(sampling_params)
        if num == 1:
            return [run(self.client.generate_text(ids, params, options))]
        return run(self._texts(ids, params, options, num))

    async def _texts(
        self, ids: tuple[int, ...], params: Json, options: Mapping[str, object], num: int
    ) -> list[TextAnswer]:
        ask = partial(self.client.generate_text, ids, params, options)
        return await asyncio.gather(*(ask() for _ in range(num)))

    def _note_temperature(self, answers: list[TextAnswer], temperature: float) -> None:
        """Note the temperature of logprobs beside them, for `read_chunk`."""
        for answer in answers:
            kind = self.profile.logprobs
            answer.meta_info[LOGPROB_TEMPERATURE] = logprob_temperature(kind, temperature)

    def _handle_dtype_to_regex(self, sampling_params: SglSamplingParams) -> None:
        # SGLang appends to the stop strings, whatever their type.
        stop = sampling_params.stop
        sampling_params.stop = [stop] if isinstance(stop, str) else list(stop or ())
        super()._handle_dtype_to_regex(sampling_params)

    def generate_stream(self, s: StreamExecutor, sampling_params: SglSamplingParams) -> Any:
        """SGLang's streaming, on the state's text."""
        with raising_in_program(s):
            _num_texts(sampling_params, only_one="in a stream")
            self._require_text_and_params(s, sampling_params, "streaming")
        return self._stream(s, super().generate_stream(s, sampling_params))

    def _stream(self, s: StreamExecutor, pieces: Iterator[Any]) -> Iterator[Any]:
        with raising_in_program(s), _errors_of_sglang("streaming"):
            yield from pieces

    def select(self, s: StreamExecutor, *arguments: Any) -> Any:
        """SGLang's choice between texts, on the state's text."""
        with raising_in_program(s):
            require_text(s, self.client, "sgl.select")
            return super().select(s, *arguments)

    def _generate_http_request(self, s: StreamExecutor, data: Json) -> Json | list[Json]:
        """Score the texts of `select` in separate requests, as routers require."""
        self._add_images(s, data)
        name = "text" if "text" in data else "input_ids"
        if isinstance(data[name], str):
            return run(self.client.score(data))
        return [run(self.client.score(data | {name: value})) for value in data[name]]

    def commit_lazy_operations(self, s: StreamExecutor) -> None:
        """Put the state's tokens into the radix tree, before a fork of several."""
        with raising_in_program(s):
            if not s.images_:
                self._prefill_state(s)
                return
            with _errors_of_sglang("a fork with images"):
                super().commit_lazy_operations(s)

    def _prefill_state(self, s: StreamExecutor) -> None:
        tokens = tokens_in(s, self.client)
        if tokens.num_prefilled < len(tokens.ids) - 1:
            run(self.client.generate_text(tokens.ids, {"max_new_tokens": 0}))
            keep_tokens(s, replace(tokens, num_prefilled=len(tokens.ids)))

    def end_program(self, s: StreamExecutor) -> None:
        """Wait for the worker thread of a state that ends."""
        end_worker(s)

    def _require_text_and_params(
        self, s: StreamExecutor, sampling_params: SglSamplingParams, feature: str
    ) -> None:
        require_text(s, self.client, feature)
        params = {**sampling_params.to_srt_kwargs(), **_text_options(sampling_params)}
        require_params(params, self.profile.vocabulary_size, len(tokens_in(s, self.client).ids))


def _text_options(sampling_params: SglSamplingParams) -> dict[str, object]:
    return {name: getattr(sampling_params, name) for name in _TEXT_OPTIONS}


def _num_texts(sampling_params: SglSamplingParams, only_one: str | None = None) -> int:
    """The `n` of an `sgl.gen`.

    Args:
        only_one: the case in which n must be 1, for the error.

    Raises:
        ValueError: n is not a whole number of at least 1, or must be 1.
    """
    num = sampling_params.n
    if type(num) is not int or num < 1:
        raise ValueError(f"n of sgl.gen is {num!r}; it must be a whole number of at least 1")
    if only_one and num > 1:
        raise ValueError(f"n of sgl.gen is {num}; {only_one} it can only be 1")
    return num


@contextlib.contextmanager
def _errors_of_sglang(feature: str) -> Iterator[None]:
    """Name the errors of requests that SGLang's own endpoint sends."""
    try:
        yield
    except OSError as error:
        raise ServerUnreachableError(f"{feature} cannot reach the server: {error}") from error
    except RuntimeError as error:
        raise ServerError(f"the server refused {feature}: {error}") from error
