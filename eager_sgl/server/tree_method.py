"""The method object of a request that a tree answers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from eager_sgl.budget.bidding import TokenPrice
from eager_sgl.config import EagerConfig, SamplingConfig
from eager_sgl.methods import BestFirst, EagerInit, Method, TrieParallel, Vote
from eager_sgl.search.probing import Probing
from eager_sgl.search.rounds import SearchConfig
from eager_sgl.search.stopping import Consensus, Stop, Unexplored
from eager_sgl.search.utility import VoteUncertainty
from eager_sgl.server.errors import ApiError, of_the_request
from eager_sgl.server.exactness import law_of
from eager_sgl.server.facts import Facts
from eager_sgl.server.limits import RequestLimits
from eager_sgl.server.schema import MethodName, StopFields, TokenRequest
from eager_sgl.server.voting.ballot import Poll
from eager_sgl.voting.cutting import Cutting
from eager_sgl.voting.deciding import AHEAD, BetaRule, ByCounts, ConsensusShare
from eager_sgl.voting.weighing import by_probability

__all__ = ["cutting_of", "tree_method"]


def tree_method(
    name: MethodName,
    body: TokenRequest,
    number: int,
    facts: Facts,
    limits: RequestLimits,
    poll: Poll,
) -> Method:
    """The method by name.

    Args:
        number: M.
        poll: how its sequences vote.

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
    if name == "vote":
        return _vote(body, config, facts, limits, poll)
    kind = BestFirst if name == "best_first" else TrieParallel
    stop, bidder = _stop_rule(body, poll), _bidder(body, poll)
    return kind(config, seed=_seed(body), stop=stop, bidder=bidder)


def _vote(
    body: TokenRequest, config: SearchConfig, facts: Facts, limits: RequestLimits, poll: Poll
) -> Vote:
    assert poll.classes is not None, "a vote has answers"
    if poll.cutting is not None and facts.profile.gate is None:
        message = f"eager.cut needs the plugin in the SGLang server: {facts.profile.no_gate}"
        raise ApiError(400, message, "eager.cut")
    options = body.options
    vote = partial(
        Vote,
        config,
        seed=_seed(body),
        answers=poll.classes,
        shares=options.shares is not False,
        ahead=AHEAD if options.ahead is None else options.ahead,
        cutting=poll.cutting,
        probing=None if options.probe is None else Probing(**options.probe.model_dump()),
        bidder=_bidder(body, poll),
        on_count=poll.note if options.events else None,
    )
    weigh = None if options.weights is None else by_probability
    if options.stop and options.stop.share:
        return vote(rule=_share(options.stop), weigh=weigh)
    rule = BetaRule((options.stop.consensus if options.stop else None) or limits.consensus)
    return vote(rule=rule if weigh is None else ByCounts(rule), weigh=weigh)


def _share(stop: StopFields) -> ConsensusShare:
    assert stop.share is not None, "the vote ends by a share"
    at_least = ConsensusShare.at_least if stop.at_least is None else stop.at_least
    return ConsensusShare(stop.share, at_least)


def cutting_of(name: MethodName, body: TokenRequest, number: int) -> Cutting | None:
    """When the samples of a vote are cut; None for never.

    Args:
        number: M.

    Raises:
        ApiError: none would be.
    """
    fields = body.options.cut
    if fields is None or name != "vote":
        return None
    cutting = Cutting(fields.window, fields.keep, fields.warmup, fields.floor)
    field = "eager.cut.warmup"
    with of_the_request(field):
        cutting.require_room(number, field)
    return cutting


def _bidder(body: TokenRequest, poll: Poll) -> TokenPrice | None:
    """The price of tokens, by which requests that arrive over time need no common total."""
    if body.options.price is None:
        return None
    assert poll.classes is not None, "bids compare answers"
    return TokenPrice(VoteUncertainty(poll.classes), body.options.price)


_OF_VOTES = ("shares", "weights", "ahead", "cut", "probe")


def _refuse_options(name: MethodName, body: TokenRequest) -> None:
    stop = body.options.stop
    refused = {
        "threshold": name != "eager_init" and body.options.threshold is not None,
        **{n: name != "vote" and getattr(body.options, n) is not None for n in _OF_VOTES},
        "price": name == "eager_init" and body.options.price is not None,
        "stop": name == "eager_init" and stop is not None,
        "stop.unexplored": name == "vote" and stop is not None and stop.unexplored is not None,
        "stop.share": name != "vote" and stop is not None and stop.share is not None,
    }
    for field, is_given in refused.items():
        if is_given:
            raise ApiError(400, f"eager.{field} is not offered by {name}", f"eager.{field}")
    if body.options.weights and body.options.shares is False:
        message = "eager.weights needs the probabilities that sharing observes; leave out shares"
        raise ApiError(400, message, "eager.weights")
    if body.options.weights and body.options.probe:
        message = "eager.weights needs probabilities, and probed samples have none; give one"
        raise ApiError(400, message, "eager.weights")
    if stop is not None:
        _require_one_rule(stop)


def _require_one_rule(stop: StopFields) -> None:
    rules = (stop.consensus, stop.unexplored, stop.share)
    if sum(rule is not None for rule in rules) != 1:
        message = "eager.stop takes one rule: consensus, unexplored or share"
        raise ApiError(400, message, "eager.stop")
    if stop.at_least is not None and stop.share is None:
        message = "eager.stop.at_least is the number of votes that a share needs; give share too"
        raise ApiError(400, message, "eager.stop.at_least")


def _stop_rule(body: TokenRequest, poll: Poll) -> Stop | None:
    stop = body.options.stop
    if stop is None:
        return None
    if stop.unexplored is not None:
        return Unexplored(stop.unexplored)
    assert stop.consensus is not None, "there is one rule"
    return Consensus(poll, stop.consensus)


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
