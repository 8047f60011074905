"""What a prompt's search asks for tokens: a ledger that prompts share, or a price per token."""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from eager_sgl.callbacks import PlugIn
from eager_sgl.config import require
from eager_sgl.search.utility import Utility

__all__ = ["Bidding", "TokenPrice"]


class Bidding(Protocol):
    """Decides on the rounds of one search; leaves at the end of its context."""

    @property
    def utility(self) -> Utility:
        """The rule that the search bids by."""

    def offer(self, spent: int, value: float, expected: float) -> Future[bool]:
        """Bid for a round; the decision, once it is made. A refusal is final.

        Args:
            spent: tokens that the search has generated so far.
            value: of the round by `utility`.
            expected: tokens that the round is expected to cost.
        """

    def leave(self, spent: int | None = None) -> None:
        """End the bidding.

        Args:
            spent: tokens that the search has generated in all; None where that is not known.
        """

    def __enter__(self) -> Bidding: ...

    def __exit__(self, kind: object, *exception: object) -> None: ...


@dataclass(frozen=True)
class TokenPrice:
    """Grants a round if its value per token is at least a price.

    Nothing waits for other prompts, so it is for services, where prompts arrive over time: a higher
    price saves tokens where answers are the least certain to improve. It has no state, and may
    serve any number of prompts.

    Attributes:
        utility: the rule that the search bids by: the logarithm of a value, as those of
            `eager_sgl.search.utility` are. By `VoteUncertainty` the value is the probability that
            the next sequence has the first correct answer.
        price: the least value per token, above 0.

    Raises:
        ValueError: the utility does not take a tree and sequences, or the price is not above 0.
    """

    utility: Utility
    price: float

    def __post_init__(self) -> None:
        PlugIn("utility", self.utility, ("tree", "sequences"))
        require(0 < self.price < math.inf, "price", self.price, "a number above 0")

    def offer(self, spent: int, value: float, expected: float) -> Future[bool]:
        """Bid for a round, which is decided at once; see `Bidding`."""
        outcome = Future[bool]()
        outcome.set_result(value >= math.log(self.price) + math.log(max(expected, 1.0)))
        return outcome

    def leave(self, spent: int | None = None) -> None:
        """Nothing is kept."""

    def __enter__(self) -> TokenPrice:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        self.leave()
