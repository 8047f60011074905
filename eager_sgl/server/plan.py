"""How a request is answered: through a tree, or by the SGLang server's own route, and why.

A tree is exact for temperature and top-p alone. So a request with `n` sequences and no method is
sampled through the trie where that gives the distribution of the SGLang server's own samples, and
is passed on to the server's route elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from eager_sgl.config import EagerConfig, SamplingConfig
from eager_sgl.methods import BestFirst, EagerInit, Method, TrieParallel
from eager_sgl.search.rounds import SearchConfig
from eager_sgl.search.stopping import Consensus
from eager_sgl.server.errors import ApiError
from eager_sgl.server.exactness import inexactness_of, law_of, obstacle_of
from eager_sgl.server.facts import Facts
from eager_sgl.server.schema import Completion, MethodName, TokenRequest
from eager_sgl.server.vote import boxed_answers

__all__ = ["METHOD_NAMES", "AnswerPlan", "RequestLimits", "plan_of", "split_model"]

METHOD_NAMES: tuple[MethodName, ...] = (
    "vote",
    "trie_parallel",
    "eager_init",
    "best_first",
    "parallel",
)


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """What a request may ask for, and what it gets where it does not ask.

    Attributes:
        max_sequences: the most sequences of a request, those of all its prompts.
        default_sequences: M of a method that is named without a number.
        threshold: θ of eager_init in nats; None: every request gives it.
        top_k: K, the most likely tokens of a step that a tree knows.
        reasoning_end: the text that closes the reasoning, after which no method branches.
    """

    max_sequences: int = 128
    default_sequences: int = 8
    threshold: float | None = None
    top_k: int = 20
    reasoning_end: str = "</think>"


@dataclass(frozen=True)
class AnswerPlan:
    """How a request is answered.

    Attributes:
        name: of the method.
        num_sequences: M.
        method: generates the tree; None: the request is passed on to the SGLang server's route.
        reason: why `n` sequences without a method are not sampled through the trie.
    """

    name: MethodName
    num_sequences: int
    method: Method | None = None
    reason: str | None = None


def split_model(model: str, served: str) -> MethodName | None:
    """The method in `model`, which is the name of the served model, or name:method.

    Raises:
        ApiError: no such model, or no such method.
    """
    if model == served:
        return None
    base, _, suffix = model.rpartition(":")
    for name in METHOD_NAMES:
        if base == served and suffix == name:
            return name
    if base == served:
        known = ", ".join(METHOD_NAMES)
        message = f"there is no method {suffix!r}; known are {known}"
        raise ApiError(404, message, "model", "model_not_found")
    message = f"there is no model {model!r}; served is {served!r}, also as {served}:METHOD"
    raise ApiError(404, message, "model", "model_not_found")


def plan_of(body: TokenRequest, facts: Facts, limits: RequestLimits) -> AnswerPlan:
    """How to answer a request.

    Raises:
        ApiError: a method does not take a field that is given.
        ValueError: a number is outside its range.
    """
    body.require_numbers(facts.profile.vocabulary_size)
    name = _named(body, facts)
    number = _num_sequences(body, name, limits)
    obstacle = obstacle_of(body, facts)
    if name == "parallel":
        _refuse_tree_options(body)
        return AnswerPlan("parallel", number)
    if name != "vote" and body.options.answer is not None:
        raise ApiError(400, "eager.answer is offered by vote alone", "eager.answer")
    if name is not None:
        if obstacle is not None:
            raise ApiError(400, f"{name} cannot answer this: {obstacle}; or use parallel")
        return AnswerPlan(name, number, _method(name, body, number, facts, limits))
    _refuse_tree_options(body)
    if number == 1:
        return AnswerPlan("parallel", number)
    reason = obstacle or inexactness_of(body, facts)
    if reason is not None:
        return AnswerPlan("parallel", number, reason=reason)
    return AnswerPlan(
        "trie_parallel", number, _method("trie_parallel", body, number, facts, limits)
    )


def _named(body: TokenRequest, facts: Facts) -> MethodName | None:
    in_model, in_options = split_model(body.model, facts.model), body.options.method
    if None not in (in_model, in_options) and in_model != in_options:
        raise ApiError(
            400, f"model names the method {in_model}, eager.method names {in_options}; name one"
        )
    return in_model or in_options


def _num_sequences(body: TokenRequest, name: MethodName | None, limits: RequestLimits) -> int:
    """M of the request."""
    asked, n = body.options.max_sequences, body.n
    if None not in (asked, n) and asked != n:
        raise ApiError(400, f"n is {n} and eager.max_sequences is {asked}; give one", "n")
    is_tree = name not in (None, "parallel")
    number = (
        asked or (n if name != "vote" else None) or (limits.default_sequences if is_tree else 1)
    )
    num_prompts = len(body.prompts) if isinstance(body, Completion) else 1
    if number * num_prompts > limits.max_sequences:
        asked_for = f"{number} sequences for {num_prompts} prompts" if num_prompts > 1 else number
        raise ApiError(
            400,
            f"n is {asked_for}; this server generates at most {limits.max_sequences} at once",
            "n",
        )
    return number


def _refuse_tree_options(body: TokenRequest) -> None:
    """Refuse options that a request without a tree would ignore."""
    given = body.options.model_dump(exclude_none=True, exclude={"method", "max_sequences"})
    for field in [name for name, value in given.items() if value and name != "return_"]:
        if body.options.method is None and ":" not in body.model:
            raise ApiError(400, f"eager.{field} needs a method: set eager.method", "eager")
        raise ApiError(400, f"eager.{field} is not offered by parallel", "eager")


def _method(
    name: MethodName, body: TokenRequest, number: int, facts: Facts, limits: RequestLimits
) -> Method:
    law = law_of(body, replace(facts, chat_defaults=facts.chat_defaults or {}))
    assert law is not None, "the defaults are known"
    sampling = SamplingConfig(
        temperature=law["temperature"],
        top_p=law["top_p"],
        max_new_tokens=body.length_limit or facts.profile.context_length,
    )
    if name == "eager_init":
        return _eager_init(body, number, sampling, limits)
    config = SearchConfig(
        max_sequences=number,
        top_k=limits.top_k,
        reasoning_end=limits.reasoning_end,
        sampling=sampling,
    )
    if name == "vote":
        _refuse_for_vote(body)
        return TrieParallel(config, seed=body.seed, stop=Consensus(boxed_answers))
    if body.options.threshold is not None:
        raise ApiError(400, f"eager.threshold is not offered by {name}", "eager.threshold")
    kind = BestFirst if name == "best_first" else TrieParallel
    return kind(config, seed=body.seed)


def _refuse_for_vote(body: TokenRequest) -> None:
    """Refuse what has no meaning for a vote, which has one choice, at the end."""
    options = body.options
    if body.n is not None and body.n > 1:
        message = f"n is {body.n}, and vote has one choice; give eager.max_sequences"
        raise ApiError(400, message, "n")
    if body.stream:
        raise ApiError(400, "vote is not streamed yet; leave stream out", "stream")
    for name in ("threshold", "return_"):
        if getattr(options, name) is not None:
            field = name.rstrip("_")
            raise ApiError(400, f"eager.{field} is not offered by vote", f"eager.{field}")


def _eager_init(
    body: TokenRequest, number: int, sampling: SamplingConfig, limits: RequestLimits
) -> EagerInit:
    threshold = body.options.threshold or limits.threshold
    if threshold is None:
        message = "eager_init needs eager.threshold: θ in nats, which depends on the model"
        raise ApiError(400, message, "eager.threshold")
    config = EagerConfig(
        threshold=threshold,
        max_sequences=number,
        top_k=limits.top_k,
        reasoning_end=limits.reasoning_end,
        sampling=sampling,
    )
    return EagerInit(config, seed=body.seed)
