"""The ledger of sequences over all prompts of a run.

Every sequence is spent by a prompt, reserved for one, or free: `spent + reserved + free = total`
holds at any time, from any number of threads.
"""

from __future__ import annotations

import threading

__all__ = ["Account", "Ledger"]


class Ledger:
    """Owns the sequences of a run; each prompt has an `Account`.

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
        """Sequences that prompts have generated."""
        with self._lock:
            return self._spent

    @property
    def reserved(self) -> int:
        """Sequences set aside for running prompts, and not yet spent."""
        with self._lock:
            return self._reserved

    @property
    def free(self) -> int:
        """Sequences neither spent nor reserved: after EAGer-init, the surplus."""
        with self._lock:
            return self.total - self._spent - self._reserved

    def reserve(self, num_sequences: int) -> Account:
        """Set sequences aside for one prompt.

        Raises:
            ValueError: the number is below 1, or fewer are free.
        """
        with self._lock:
            free = self.total - self._spent - self._reserved
            if not 1 <= num_sequences <= free:
                raise ValueError(f"cannot reserve {num_sequences} sequences: {free} are free")
            self._reserved += num_sequences
        return Account(self, num_sequences)

    def _settle(self, spent: int, returned: int) -> None:
        with self._lock:
            self._reserved -= spent + returned
            self._spent += spent
            free = self.total - self._spent - self._reserved
            assert min(self._reserved, self._spent, free) >= 0, (
                f"{self._spent} spent + {self._reserved} reserved + {free} free = {self.total}"
            )


class Account:
    """The sequences of one prompt; made by `Ledger.reserve`, released at the end of its context.

    Attributes:
        granted: sequences that the prompt may generate.
        spent: those of them that it has generated.
    """

    def __init__(self, ledger: Ledger, granted: int) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self.granted = granted
        self.spent = 0

    def commit(self, num_sequences: int) -> None:
        """Spend reserved sequences.

        Raises:
            ValueError: the number is negative, or fewer are reserved.
        """
        with self._lock:
            left = self.granted - self.spent
            if not 0 <= num_sequences <= left:
                raise ValueError(f"cannot commit {num_sequences} sequences: {left} are reserved")
            self.spent += num_sequences
            self._ledger._settle(spent=num_sequences, returned=0)

    def set_spent(self, num_sequences: int) -> None:
        """Spend so many in all; what was spent beyond is reserved again.

        Raises:
            ValueError: the number is negative, or more than were granted.
        """
        with self._lock:
            if not 0 <= num_sequences <= self.granted:
                raise ValueError(f"cannot spend {num_sequences} sequences of {self.granted}")
            self._ledger._settle(spent=num_sequences - self.spent, returned=0)
            self.spent = num_sequences

    def release(self) -> int:
        """Return what was not spent to the ledger.

        Returns:
            The number of sequences that are free again.
        """
        with self._lock:
            returned = self.granted - self.spent
            self.granted = self.spent
            self._ledger._settle(spent=0, returned=returned)
            return returned

    def restore(self) -> None:
        """Reserve again what was spent: the prompt has failed, and will be tried again."""
        with self._lock:
            self._ledger._settle(spent=-self.spent, returned=0)
            self.spent = 0

    def __enter__(self) -> Account:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
