"""The ledger of sequences over all prompts of a run.

Every sequence is at any time in one of three places: spent by a prompt, reserved for one, or free.
`spent + reserved + free = total`, always, from any number of threads.
"""

from __future__ import annotations

import threading

__all__ = ["Account", "Ledger"]


class Ledger:
    """Owns the run's sequences; prompts take theirs through an `Account`.

    Args:
        total: sequences that the run may generate, M·|D| in the paper.
    """

    def __init__(self, total: int) -> None:
        if total < 0:
            raise ValueError(f"total is {total}; a ledger needs at least 0 sequences")
        self.total = total
        self._lock = threading.Lock()
        self._spent = 0
        self._reserved = 0

    @property
    def spent(self) -> int:
        """Sequences that prompts have taken for good."""
        with self._lock:
            return self._spent

    @property
    def reserved(self) -> int:
        """Sequences set aside for running prompts."""
        with self._lock:
            return self._reserved

    @property
    def free(self) -> int:
        """Sequences that nobody has claimed: after EAGer-init, the surplus."""
        with self._lock:
            return self.total - self._spent - self._reserved

    def reserve(self, num_sequences: int) -> Account:
        """Set sequences aside for one prompt.

        Raises:
            ValueError: fewer are free, or the number is below 1.
        """
        with self._lock:
            free = self.total - self._spent - self._reserved
            if not 1 <= num_sequences <= free:
                raise ValueError(f"cannot reserve {num_sequences} sequences: {free} are free")
            self._reserved += num_sequences
        return Account(self, num_sequences)

    def _settle(self, taken: int, returned: int) -> None:
        with self._lock:
            self._reserved -= taken + returned
            self._spent += taken
            free = self.total - self._spent - self._reserved
            assert min(self._reserved, self._spent, free) >= 0, (
                f"{self._spent} spent + {self._reserved} reserved + {free} free = {self.total}"
            )


class Account:
    """One prompt's part of the ledger; made by `Ledger.reserve`, closed by leaving its context."""

    def __init__(self, ledger: Ledger, granted: int) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self.granted = granted
        self.spent = 0

    def commit(self, num_sequences: int) -> None:
        """Take sequences for good.

        Raises:
            ValueError: the reservation does not hold as many.
        """
        with self._lock:
            left = self.granted - self.spent
            if not 0 <= num_sequences <= left:
                raise ValueError(f"cannot take {num_sequences} sequences: {left} are reserved")
            self.spent += num_sequences
            self._ledger._settle(taken=num_sequences, returned=0)

    def release(self) -> int:
        """Give back what was not taken; how many that were."""
        with self._lock:
            returned = self.granted - self.spent
            self.granted = self.spent
            self._ledger._settle(taken=0, returned=returned)
            return returned

    def restore(self) -> None:
        """Reserve again what was taken: the prompt has failed, and is to be tried again."""
        with self._lock:
            self._ledger._settle(taken=-self.spent, returned=0)
            self.spent = 0

    def __enter__(self) -> Account:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
