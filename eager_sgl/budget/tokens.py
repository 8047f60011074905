"""A token budget that the searches of many prompts share: the round with the best bid is granted.

Every search draws its first sequence. Then it bids for each of its rounds: with the value of the
round by a rule of `eager_sgl.search.utility`, and with the tokens that the round is expected to
cost. Nothing is granted before all searches have bid or left; from then on the best bid is, as long
as it fits into the rest of the budget.

A round is charged with its expected cost while it runs, and with its true cost once it has ended.
So the total is exceeded at most by the costs of running rounds above their expectation, and by
first sequences.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from eager_sgl.callbacks import PlugIn
from eager_sgl.search.utility import Utility

__all__ = ["Bidder", "TokenLedger"]


@dataclass(frozen=True)
class _Bid:
    value: float
    expected: float
    outcome: Future[bool] = field(default_factory=Future)


class TokenLedger:
    """Owns the tokens of a run; each search has a `Bidder`.

    Args:
        total: tokens that may be generated.
        max_running: rounds that may run at the same time. At 1 every grant goes to the best of
            all bids; with as many as there are searches no bid would wait, and bids would decide
            nothing.
        spent: tokens of the total that were spent before.
    """

    def __init__(self, total: int, *, max_running: int = 1, spent: int = 0) -> None:
        if total < 1:
            raise ValueError(f"total is {total}; a ledger needs at least 1 token")
        if max_running < 1:
            raise ValueError(f"max_running is {max_running}; it must be at least 1")
        self.total = total
        self._max_running = max_running
        self._lock = threading.Lock()
        self._spent = spent
        self._num_joined = 0
        self._yet_to_bid: set[Bidder] = set()
        self._waiting: dict[Bidder, _Bid] = {}
        self._running: dict[Bidder, float] = {}
        self._is_closed = False

    @property
    def spent(self) -> int:
        """Tokens of all first sequences and rounds that have ended."""
        with self._lock:
            return self._spent

    @property
    def reserved(self) -> float:
        """Expected tokens of the running rounds."""
        with self._lock:
            return sum(self._running.values())

    def join(self, utility: Utility, share: int = 0) -> Bidder:
        """Admit a search; of equal bids, that of the first to join is granted first.

        Args:
            utility: the rule that the search bids by.
            share: tokens that the search is charged at least if it fails; they are left when it is
                tried again.

        Raises:
            ValueError: `utility` does not take a tree and sequences.
        """
        PlugIn("utility", utility, ("tree", "sequences"))
        with self._lock:
            bidder = Bidder(self, self._num_joined, utility, share)
            self._num_joined += 1
            self._yet_to_bid.add(bidder)
        return bidder

    def close(self) -> None:
        """Refuse all waiting and later bids."""
        with self._lock:
            self._is_closed = True
            self._decide()

    def _settle(self, bidder: Bidder, spent: int, bid: _Bid | None) -> None:
        """Charge a bidder for its last round, and queue its next bid; None if it leaves."""
        with self._lock:
            self._spent += spent - bidder.spent
            bidder.spent = spent
            self._yet_to_bid.discard(bidder)
            self._running.pop(bidder, None)
            self._waiting.pop(bidder, None)
            if bid is not None:
                self._waiting[bidder] = bid
            self._decide()

    def _decide(self) -> None:
        """Grant or refuse the bids that can be decided; called after every change."""
        while self._waiting and (self._is_closed or self._has_room()):
            best = max(self._waiting, key=lambda b: (self._waiting[b].value, -b.order))
            bid = self._waiting[best]
            left = self.total - self._spent - sum(self._running.values())
            is_granted = not self._is_closed and bid.expected <= left
            if not is_granted and not self._is_closed and self._running:
                return  # running rounds may cost less than expected
            del self._waiting[best]
            if is_granted:
                self._running[best] = bid.expected
            bid.outcome.set_result(is_granted)

    def _has_room(self) -> bool:
        return not self._yet_to_bid and len(self._running) < self._max_running


class Bidder:
    """The bids of one search; made by `TokenLedger.join`, leaves at the end of its context.

    Attributes:
        order: number of searches that joined before.
        utility: the rule that the search bids by.
        share: tokens that the search is charged at least if an exception ends it.
        spent: tokens charged to the search.
    """

    def __init__(self, ledger: TokenLedger, order: int, utility: Utility, share: int) -> None:
        self._ledger = ledger
        self.order = order
        self.utility = utility
        self.share = share
        self.spent = 0

    def offer(self, spent: int, value: float, expected: float) -> Future[bool]:
        """Bid for a round; the decision, once it is made. A refusal is final.

        Args:
            spent: tokens that the search has generated so far.
            value: of the round by `utility`.
            expected: tokens that the round is expected to cost.
        """
        bid = _Bid(value, expected)
        self._ledger._settle(self, spent, bid)
        return bid.outcome

    def leave(self, spent: int | None = None) -> None:
        """End the bidding.

        Args:
            spent: tokens that the search has generated in all; None keeps what it was charged.
        """
        self._ledger._settle(self, self.spent if spent is None else spent, None)

    def __enter__(self) -> Bidder:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        self.leave(None if kind is None else max(self.spent, self.share))
