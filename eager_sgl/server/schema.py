"""Bodies of requests: every field is honoured, or refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eager_sgl.engine.checks import require_params, require_tokens
from eager_sgl.engine.protocol import Json
from eager_sgl.search.probing import Probing
from eager_sgl.server.errors import ApiError
from eager_sgl.voting.cutting import Cutting
from eager_sgl.voting.deciding import MAX_AHEAD

__all__ = [
    "Chat",
    "Completion",
    "CutFields",
    "EagerOptions",
    "MethodName",
    "ProbeFields",
    "RegexFields",
    "TokenRequest",
    "body_of",
    "is_one_of",
]

MethodName = Literal["vote", "trie_parallel", "eager_init", "best_first", "parallel"]

REFUSED = {
    "audio": "answers are text",
    "best_of": "use n, and choose among the choices",
    "custom_logit_processor": "it is code that the SGLang server would load",
    "custom_params": "they belong to a custom logit processor",
    "function_call": "use tool_choice",
    "functions": "use tools",
    "input_ids": "send token ids as the prompt of /v1/completions",
    "lora_path": "one model is served",
    "metadata": "nothing is stored",
    "modalities": "answers are text",
    "prediction": "SGLang has no predicted outputs",
    "store": "nothing is stored",
    "suffix": "SGLang does not insert text",
    "service_tier": "all requests have the same priority",
}
"""Known fields that are not offered, and what to do instead."""
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "metadata": ({},),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "store": (False,),
}
"""Their values that ask for nothing."""


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class RegexFields(_Checked):
    """An answer by a regular expression of RE2."""

    regex: str


class StopFields(_Checked):
    """The field `eager.stop`, with one rule.

    Attributes:
        consensus: probability above which the majority is taken to be decided.
        unexplored: probability of all untried tokens below which a search ends.
        share: of the weights of all votes, at which the leading answer wins.
        at_least: number of votes that a share needs.
    """

    consensus: float | None = Field(None, gt=0.5, lt=1)
    unexplored: float | None = Field(None, gt=0, lt=1)
    share: float | None = Field(None, gt=0.5, le=1)
    at_least: int | None = Field(None, ge=1, le=2**20)


class CutFields(_Checked):
    """The field `eager.cut`; see `eager_sgl.voting.cutting.Cutting`.

    Attributes:
        window: steps that a confidence is the mean of.
        keep: share of the first samples that reach the floor.
        warmup: number of the first samples, which are not cut.
        floor: in nats, in place of that of the first samples.
    """

    window: int = Field(Cutting.window, ge=1, le=2**20)
    keep: float = Field(Cutting.keep, gt=0, le=1)
    warmup: int = Field(Cutting.warmup, ge=1)
    floor: float | None = Field(None, ge=0, le=1e9)


class ProbeFields(_Checked):
    """The field `eager.probe`; see `eager_sgl.search.probing.Probing`.

    Attributes:
        text: asks for the answer.
        interval: tokens of a sample between two probes.
        stable: number of probes in a row whose equal answers end a sample.
        max_answer_tokens: after the text.
    """

    text: str = Field(min_length=1, max_length=1000)
    interval: int = Field(Probing.interval, ge=1)
    stable: int = Field(Probing.stable, ge=1, le=16)
    max_answer_tokens: int = Field(Probing.max_answer_tokens, ge=1, le=1024)


class EagerOptions(_Checked):
    """The field `eager`.

    Attributes:
        method: how the sequences are generated.
        max_sequences: M; `n` if it is above 1, else the server's default.
        threshold: θ of eager_init in nats.
        token_budget: generated tokens at which the tree ends, with what it has by then.
        deadline_s: seconds with the same effect.
        return_: whether all sequences are choices, or the best one is the only choice.
        answer: how the answer of a sequence is found, for votes: the name of a reader, or a regex.
        stop: ends the method early.
        shares: whether the samples of a vote share their prefixes.
        weights: how the samples of a vote weigh; None counts each as 1.
        cut: when samples of a vote in which the model is unsure end early, and do not vote.
        probe: when samples of a vote are asked for their answers, and end with a stable one.
        price: the least value per token at which further sequences start.
        ahead: how far the samples of a vote run ahead of the decision.
        events: whether a stream has events for branches, ends and votes.
    """

    method: MethodName | None = None
    max_sequences: int | None = Field(None, ge=1)
    threshold: float | None = Field(None, gt=0)
    token_budget: int | None = Field(None, ge=1)
    deadline_s: float | None = Field(None, gt=0, le=86400)
    return_: Literal["best", "all"] | None = Field(None, alias="return")
    answer: str | RegexFields | None = None
    stop: StopFields | None = None
    shares: bool | None = None
    weights: Literal["probability"] | None = None
    cut: CutFields | None = None
    probe: ProbeFields | None = None
    price: float | None = Field(None, gt=0)
    ahead: float | None = Field(None, ge=0, le=MAX_AHEAD)
    events: bool = False


_DEFAULTS = EagerOptions.model_validate({})


class StreamOptions(_Checked):
    """The field `stream_options`."""

    include_usage: bool = False


class TokenRequest(_Checked):
    """The fields that both routes have; those without a type are checked by the SGLang server."""

    model: str
    n: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop_token_ids: list[int] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    timeout: float | None = Field(None, gt=0, le=86400)
    eager: EagerOptions | None = None

    top_k: int | None = None
    min_p: float | None = None
    stop: str | list[str] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = Field(None, gt=0, le=2)
    logit_bias: dict[str, float] | None = None
    min_tokens: int | None = None
    response_format: Json | None = None
    regex: str | None = None
    ebnf: str | None = None
    stop_regex: str | list[str] | None = None
    no_stop_trim: bool | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None

    @property
    def given(self) -> set[str]:
        """The names of the fields with a value."""
        return {name for name in self.model_fields_set if getattr(self, name) is not None}

    @property
    def options(self) -> EagerOptions:
        """The field `eager`, or its defaults."""
        return self.eager or _DEFAULTS

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def num_top_logprobs(self) -> int | None:
        """The alternatives of every token that the answer has; None for no logprobs."""
        raise NotImplementedError

    @property
    def length_limit(self) -> int | None:
        """Tokens of a sequence; None for the rest of the context."""
        return self.max_tokens

    def require_values(self, vocabulary_size: int) -> None:
        """Check the values that SGLang does not, some of which would end its scheduler.

        Raises:
            ApiError: fields contradict each other, or ask for what SGLang does not do.
            ValueError: a number is outside its range.
        """
        if None not in (self.no_stop_trim, self.include_stop_str_in_output):
            message = "include_stop_str_in_output is another name of no_stop_trim; give one"
            raise ApiError(400, message, "include_stop_str_in_output")
        names = ("temperature", "top_p", "top_k", "min_p", "stop_token_ids")
        params: Json = {name: getattr(self, name) for name in names}
        params |= {name: getattr(self, name) for name in ("frequency_penalty", "presence_penalty")}
        params["max_new_tokens"], params["min_new_tokens"] = self.length_limit, self.min_tokens
        params["top_logprobs_num"] = self.num_top_logprobs
        require_params(params, vocabulary_size, 0)


class Completion(TokenRequest):
    """The body of `/v1/completions`."""

    prompt: str | list[int] | list[str] | list[list[int]]
    logprobs: int | None = None
    echo: bool | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one or several."""
        prompt = self.prompt
        if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)):
            return [prompt]
        return prompt  # type: ignore[return-value]

    def require_values(self, vocabulary_size: int) -> None:
        """Check the prompts too."""
        super().require_values(vocabulary_size)
        if not self.prompts or not all(self.prompts):
            raise ApiError(400, "the prompt is empty; it needs at least one token", "prompt")
        for prompt in self.prompts:
            if not isinstance(prompt, str):
                require_tokens("the prompt", prompt, vocabulary_size)

    @property
    def num_top_logprobs(self) -> int | None:
        return self.logprobs

    @property
    def length_limit(self) -> int:
        return 16 if self.max_tokens is None else self.max_tokens


class Chat(TokenRequest):
    """The body of `/v1/chat/completions`; the SGLang server checks and renders the messages."""

    messages: list[Json] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = None
    chat_template_kwargs: Json | None = None
    reasoning_effort: str | float | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    tools: list[Json] | None = None
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    separate_reasoning: bool | None = None
    stream_reasoning: bool | None = None

    def require_values(self, vocabulary_size: int) -> None:
        """Check that the prompt ends as SGLang renders it."""
        super().require_values(vocabulary_size)
        if self.add_generation_prompt in (None, self.continued is None):
            return
        raise ApiError(
            400,
            f"add_generation_prompt is {self.add_generation_prompt}; SGLang's prompts end with the "
            "start of an answer, or with continue_final_message in the last message; leave it out",
            "add_generation_prompt",
        )

    @property
    def continued(self) -> str | None:
        """The text of the last message, where SGLang renders it as not finished; else None."""
        last = self.messages[-1] if self.messages else {}
        text = last.get("content")
        continues = self.continue_final_message and last.get("role") == "assistant"
        return text if continues and isinstance(text, str) else None

    @property
    def num_top_logprobs(self) -> int | None:
        return self.top_logprobs

    @property
    def length_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


def is_one_of(value: object, values: Iterable[object]) -> bool:
    """Whether a value equals one of others; a number equals no bool, as it does in Python."""
    return any(value == v and isinstance(value, bool) is isinstance(v, bool) for v in values)


Body = TypeVar("Body", bound=TokenRequest)


def body_of(kind: type[Body], data: bytes) -> Body:
    """The body of a request.

    Raises:
        ApiError: it is no JSON, a field is unknown, refused or missing, has another type, or has
            another value in `extra_body`.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ApiError(400, "the body is no JSON object")
    value = _merged(value)
    for name, advice in REFUSED.items():
        if not is_one_of(value.get(name), (None, *_NEUTRAL.get(name, ()))):
            raise ApiError(400, f"{name} is not offered; {advice}", name)
    try:
        return kind.model_validate({k: v for k, v in value.items() if k not in REFUSED})
    except ValidationError as error:
        raise _refusal(kind, error) from None


def _merged(value: Json) -> Json:
    """A body with the fields of its `extra_body`, which some clients send as it is."""
    merged, extra = dict(value), value.get("extra_body") or {}
    merged.pop("extra_body", None)
    if not isinstance(extra, dict):
        raise ApiError(400, "extra_body is no JSON object", "extra_body")
    for name, given in extra.items():
        if merged.setdefault(name, given) != given:
            raise ApiError(400, f"{name} has another value in extra_body; give it once", name)
    return merged


def _refusal(kind: type[TokenRequest], error: ValidationError) -> ApiError:
    """The error of the first field that is wrong."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path, message = first["loc"], first["msg"]
    for size in range(1, len(path)):
        name = ".".join(map(str, path[:size]))
        if name in _ALTERNATIVES:  # the rest of the path names one of them
            return ApiError(400, f"{name}: it must be {_ALTERNATIVES[name]}", name)
    name = ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        owner = _OWNERS.get(path[:-1], kind)
        fields = {field.alias or key: field for key, field in owner.model_fields.items()}
        return ApiError(
            400, f"unknown field {name!r}; known are {', '.join(sorted(fields))}", name, "unknown"
        )
    return ApiError(400, f"{name}: {message[0].lower()}{message[1:]}", name)


_ALTERNATIVES: Mapping[str, str] = {
    "eager.answer": 'the name of a reader, such as "boxed", or {"regex": PATTERN}',
    "prompt": "a string, an array of token ids, or an array of strings or of such arrays",
    "reasoning_effort": "a string or a number",
    "stop": "a string or an array of strings",
    "stop_regex": "a string or an array of strings",
    "tool_choice": '"auto", "none", "required", or an object that names a function',
}
"""What the fields of several types may be."""
_OWNERS: dict[tuple[int | str, ...], type[BaseModel]] = {
    ("eager",): EagerOptions,
    ("eager", "stop"): StopFields,
    ("eager", "cut"): CutFields,
    ("eager", "probe"): ProbeFields,
    ("stream_options",): StreamOptions,
}
"""The models of nested fields."""
