"""Tokens that the searches of many prompts share: the round that is worth most goes on.

Every search draws its first sequence. Then it bids for each round that it would open: with what the
round is worth by a rule of `eager_sgl.search.utility`, and with the tokens that it is expected to
cost.
Nothing is granted before all searches have bid or left; from then on the best bid is, as long as it
fits into what is left. A round is charged with what was expected of it while it runs, and with what
it cost once it has ended; so the total is exceeded at most by what running rounds cost beyond their
expectation, and by first sequences.
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
    """Owns the tokens of a run; searches get theirs through a `Bidder`.

    Args:
        total: tokens that may be generated.
        max_running: rounds that may run at the same time. At 1 every grant goes to the best of
            all bids; with as many as there are searches nobody would have to wait, and bids
            would decide nothing.
        spent: of the total, before this ledger began.
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
        self._silent: set[Bidder] = set()
        self._waiting: dict[Bidder, _Bid] = {}
        self._running: dict[Bidder, float] = {}
        self._is_closed = False

    @property
    def spent(self) -> int:
        """Tokens of all rounds that have ended."""
        with self._lock:
            return self._spent

    @property
    def reserved(self) -> float:
        """Tokens that are expected of the rounds that run."""
        with self._lock:
            return sum(self._running.values())

    def join(self, utility: Utility, share: int = 0) -> Bidder:
        """One search's part in it; of equal bids the first to have joined goes first.

        Args:
            utility: the rule that the search bids by.
            share: tokens that are charged to it at least if it fails, so that they are left over
                when it is tried again.

        Raises:
            ValueError: it does not take a tree and sequences.
        """
        PlugIn("utility", utility, ("tree", "sequences"))
        with self._lock:
            bidder = Bidder(self, self._num_joined, utility, share)
            self._num_joined += 1
            self._silent.add(bidder)
        return bidder

    def close(self) -> None:
        """Refuse whoever waits, and all bids to come."""
        with self._lock:
            self._is_closed = True
            self._decide()

    def _settle(self, bidder: Bidder, spent: int, bid: _Bid | None) -> None:
        """Charge a bidder's last round, and take its next bid, if it has one."""
        with self._lock:
            self._spent += spent - bidder.spent
            bidder.spent = spent
            self._silent.discard(bidder)
            self._running.pop(bidder, None)
            if bid is not None:
                self._waiting[bidder] = bid
            self._decide()

    def _decide(self) -> None:
        """Grant or refuse what can be; called whenever anything has changed."""
        while self._waiting and (self._is_closed or self._has_room()):
            best = max(self._waiting, key=lambda b: (self._waiting[b].value, -b.place))
            bid = self._waiting[best]
            left = self.total - self._spent - sum(self._running.values())
            is_granted = not self._is_closed and bid.expected <= left
            if not is_granted and not self._is_closed and self._running:
                return  # they may cost less than was expected of them
            del self._waiting[best]
            if is_granted:
                self._running[best] = bid.expected
            bid.outcome.set_result(is_granted)

    def _has_room(self) -> bool:
        return not self._silent and len(self._running) < self._max_running


class Bidder:
    """One search's way to the tokens; made by `TokenLedger.join`, left by leaving its context.

    Attributes:
        place: the order of joining.
        utility: the rule that it bids by.
        share: tokens that it is charged at least if it leaves for an exception.
        spent: tokens charged to it.
    """

    def __init__(self, ledger: TokenLedger, place: int, utility: Utility, share: int) -> None:
        self._ledger = ledger
        self.place = place
        self.utility = utility
        self.share = share
        self.spent = 0

    def ask(self, spent: int, value: float, expected: float) -> bool:
        """Whether a round may be opened; waits until that is decided, and a refusal is final.

        Args:
            spent: tokens that the search has generated by now.
            value: of the round, by `worth`.
            expected: tokens that the round will cost.
        """
        return self.offer(spent, value, expected).result()

    def offer(self, spent: int, value: float, expected: float) -> Future[bool]:
        """`ask` without waiting."""
        bid = _Bid(value, expected)
        self._ledger._settle(self, spent, bid)
        return bid.outcome

    def leave(self, spent: int | None = None) -> None:
        """Bid no more.

        Args:
            spent: tokens that the search has generated in all; None where that is not known.
        """
        self._ledger._settle(self, self.spent if spent is None else spent, None)

    def __enter__(self) -> Bidder:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        self.leave(None if kind is None else max(self.spent, self.share))
