"""How a request is answered: through a tree, or by the SGLang server's own route, and why.

A tree is exact for temperature and top-p alone. So a request with `n` sequences and no method is
sampled through the trie where that gives the distribution of the SGLang server's own samples, and
is passed on to the server's route elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from eager_sgl.methods import Method
from eager_sgl.server.errors import ApiError
from eager_sgl.server.exactness import inexactness_of, obstacle_of
from eager_sgl.server.facts import Facts
from eager_sgl.server.limits import RequestLimits
from eager_sgl.server.schema import Completion, MethodName, TokenRequest
from eager_sgl.server.tree_method import cutting_of, tree_method
from eager_sgl.server.voting.ballot import Poll
from eager_sgl.server.voting.readers import ToolParser, classes_of

__all__ = ["METHOD_NAMES", "AnswerPlan", "plan_of", "split_model"]

METHOD_NAMES: tuple[MethodName, ...] = (
    "vote",
    "trie_parallel",
    "eager_init",
    "best_first",
    "parallel",
)


@dataclass(frozen=True)
class AnswerPlan:
    """How a request is answered.

    Attributes:
        name: of the method.
        num_sequences: M.
        method: generates the tree; None: the request is passed on to the SGLang server's route.
        reason: why `n` sequences without a method are not sampled through the trie.
        returns: whether all sequences are choices, or the best one is the only choice.
        poll: how the sequences vote.
        num_prompts: of which each has M sequences.
        num_probes: of a sequence that run at the same time.
    """

    name: MethodName
    num_sequences: int
    method: Method | None = None
    reason: str | None = None
    returns: Literal["best", "all"] = "all"
    poll: Poll = field(default_factory=Poll, compare=False)
    num_prompts: int = 1
    num_probes: int = 0

    @property
    def num_in_all(self) -> int:
        """Sequences of all prompts."""
        return self.num_sequences * self.num_prompts

    @property
    def max_in_flight(self) -> int:
        """Sequences and probes that run at the same time, at most."""
        return self.num_in_all * (1 + self.num_probes)


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


def plan_of(
    body: TokenRequest, facts: Facts, limits: RequestLimits, tools: ToolParser | None = None
) -> AnswerPlan:
    """How to answer a request.

    Args:
        tools: reads the calls of tools that are voted on.

    Raises:
        ApiError: a method does not take a field that is given.
        ValueError: a number is outside its range.
    """
    body.require_values(facts.profile.vocabulary_size)
    name = _named(body, facts)
    number = _num_sequences(body, name, limits)
    if name == "parallel":
        _refuse_tree_options(body)
        return AnswerPlan("parallel", number, num_prompts=_num_prompts(body))
    if name is not None:
        return _tree_plan(name, body, number, facts, limits, tools)
    _refuse_tree_options(body)
    if number == 1:
        return AnswerPlan("parallel", number, num_prompts=_num_prompts(body))
    reason = obstacle_of(body, facts) or inexactness_of(body, facts)
    if reason is not None:
        return AnswerPlan("parallel", number, reason=reason, num_prompts=_num_prompts(body))
    method = tree_method("trie_parallel", body, number, facts, limits, Poll())
    return AnswerPlan("trie_parallel", number, method)


def _tree_plan(
    name: MethodName,
    body: TokenRequest,
    number: int,
    facts: Facts,
    limits: RequestLimits,
    tools: ToolParser | None,
) -> AnswerPlan:
    returns, votes_on_calls = _returns(name, body), body.options.answer == "tool_call"
    if votes_on_calls and body.stream and returns == "all":
        message = 'calls of all sequences are not streamed; leave out stream or eager.return "all"'
        raise ApiError(400, message, "stream")
    classes = classes_of(body, facts, limits, tools) if _votes(name, body) else None
    known = body.model_copy(update={"tools": None}) if votes_on_calls else body
    if (obstacle := obstacle_of(known, facts)) is not None:
        raise ApiError(400, f"{name} cannot answer this: {obstacle}; or use parallel")
    weighs = name in ("eager_init", "best_first") or body.options.weights is not None
    poll = Poll(classes, weighs=weighs, cutting=cutting_of(name, body, number))
    method = tree_method(name, body, number, facts, limits, poll)
    num_probes = 0 if body.options.probe is None else body.options.probe.stable
    return AnswerPlan(name, number, method, returns=returns, poll=poll, num_probes=num_probes)


def _returns(name: MethodName | None, body: TokenRequest) -> Literal["best", "all"]:
    return body.options.return_ or ("best" if name == "vote" else "all")


def _votes(name: MethodName, body: TokenRequest) -> bool:
    """Whether answers are compared.

    Raises:
        ApiError: they are not, and the request says how to find them.
    """
    options = body.options
    has_consensus = options.stop is not None and options.stop.consensus is not None
    if name == "vote" or has_consensus or options.price is not None:
        return True
    if options.answer is not None and options.return_ != "best":
        message = (
            'eager.answer is for vote, for eager.return "best", for eager.stop.consensus and for '
            "eager.price"
        )
        raise ApiError(400, message, "eager.answer")
    return options.answer is not None


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
    if _returns(name, body) == "best":
        if n is not None and n > 1:
            message = f"n is {n}, and there is one choice; give eager.max_sequences"
            raise ApiError(400, message, "n")
        n = None
    if None not in (asked, n) and asked != n:
        raise ApiError(400, f"n is {n} and eager.max_sequences is {asked}; give one", "n")
    is_tree = name not in (None, "parallel")
    number = asked or n or (limits.default_sequences if is_tree else 1)
    num_prompts = _num_prompts(body)
    if number * num_prompts > limits.max_sequences:
        asked_for = f"{number} sequences for {num_prompts} prompts" if num_prompts > 1 else number
        raise ApiError(
            400,
            f"n is {asked_for}; this server generates at most {limits.max_sequences} at once",
            "n",
        )
    return number


def _num_prompts(body: TokenRequest) -> int:
    return len(body.prompts) if isinstance(body, Completion) else 1


def _refuse_tree_options(body: TokenRequest) -> None:
    """Refuse options that a request without a tree would ignore."""
    if body.eager is None:
        return
    given = body.options.model_dump(exclude_defaults=True, exclude={"method", "max_sequences"})
    for name in [name for name, value in given.items() if value != "all"]:
        option = name.rstrip("_")
        if body.options.method is None and ":" not in body.model:
            raise ApiError(400, f"eager.{option} needs a method: set eager.method", "eager")
        raise ApiError(400, f"eager.{option} is not offered by parallel", "eager")
