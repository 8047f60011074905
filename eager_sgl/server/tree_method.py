"""The method object of a request that a tree answers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from eager_sgl.config import EagerConfig, SamplingConfig
from eager_sgl.methods import BestFirst, EagerInit, Method, TrieParallel, Vote
from eager_sgl.search.rounds import SearchConfig
from eager_sgl.search.stopping import Consensus, Stop, Unexplored
from eager_sgl.server.errors import ApiError
from eager_sgl.server.exactness import law_of
from eager_sgl.server.facts import Facts
from eager_sgl.server.limits import RequestLimits
from eager_sgl.server.schema import MethodName, TokenRequest
from eager_sgl.voting.answers import AnswerClasses
from eager_sgl.voting.deciding import AHEAD, BetaRule, ByCounts
from eager_sgl.voting.weighing import by_probability

__all__ = ["tree_method"]


def tree_method(
    name: MethodName,
    body: TokenRequest,
    number: int,
    facts: Facts,
    limits: RequestLimits,
    classes: AnswerClasses | None,
) -> Method:
    """The method by name.

    Args:
        number: M.
        classes: of the sequences; None where nothing votes.

    Raises:
        ApiError: an option has no meaning for the method.
    """
    _refuse_options(name, body)
    sampling = _sampling(body, facts)
    if name == "eager_init":
        return _eager_init(body, number, sampling, limits)
    config = SearchConfig(
        max_sequences=number,
        top_k=limits.top_k,
        reasoning_end=limits.reasoning_end,
        sampling=sampling,
    )
    stop = body.options.stop
    if name == "vote":
        assert classes is not None, "a vote has answers"
        return _vote(body, config, classes, (stop.consensus if stop else None) or limits.consensus)
    kind = BestFirst if name == "best_first" else TrieParallel
    return kind(config, seed=_seed(body), stop=_stop_rule(body, classes))


def _vote(
    body: TokenRequest, config: SearchConfig, classes: AnswerClasses, consensus: float
) -> Vote:
    options = body.options
    vote = partial(
        Vote,
        config,
        seed=_seed(body),
        answers=classes,
        shares=options.shares is not False,
        ahead=AHEAD if options.ahead is None else options.ahead,
    )
    rule = BetaRule(consensus)
    if options.weights is None:
        return vote(rule=rule)
    return vote(rule=ByCounts(rule), weigh=by_probability)


def _refuse_options(name: MethodName, body: TokenRequest) -> None:
    stop = body.options.stop
    refused = {
        "threshold": name != "eager_init" and body.options.threshold is not None,
        "shares": name != "vote" and body.options.shares is not None,
        "weights": name != "vote" and body.options.weights is not None,
        "ahead": name != "vote" and body.options.ahead is not None,
        "stop": name == "eager_init" and stop is not None,
        "stop.unexplored": name == "vote" and stop is not None and stop.unexplored is not None,
    }
    for field, is_given in refused.items():
        if is_given:
            raise ApiError(400, f"eager.{field} is not offered by {name}", f"eager.{field}")
    if body.options.weights and body.options.shares is False:
        message = "eager.weights needs the probabilities that sharing observes; leave out shares"
        raise ApiError(400, message, "eager.weights")
    if stop is not None and (stop.consensus is None) == (stop.unexplored is None):
        raise ApiError(400, "eager.stop takes one rule: consensus or unexplored", "eager.stop")


def _stop_rule(body: TokenRequest, classes: AnswerClasses | None) -> Stop | None:
    stop = body.options.stop
    if stop is None:
        return None
    if stop.unexplored is not None:
        return Unexplored(stop.unexplored)
    assert classes is not None, "a consensus has answers"
    assert stop.consensus is not None, "there is one rule"
    return Consensus(classes, stop.consensus)


def _sampling(body: TokenRequest, facts: Facts) -> SamplingConfig:
    law = law_of(body, replace(facts, chat_defaults=facts.chat_defaults or {}))
    assert law is not None, "the defaults are known"
    return SamplingConfig(
        temperature=law["temperature"],
        top_p=law["top_p"],
        top_k=None if law["top_k"] == -1 else int(law["top_k"]),
        max_new_tokens=body.length_limit or facts.profile.context_length,
    )


def _seed(body: TokenRequest) -> int | None:
    """The seed as a number from 0 on, a different one for every integer of 64 bits."""
    return None if body.seed is None else body.seed % 2**64


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
    return EagerInit(config, seed=_seed(body))
