"""spent + reserved + free = total, from any number of threads."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest

from eager_sgl import Ledger


def parts(ledger: Ledger) -> tuple[int, int, int]:
    return ledger.spent, ledger.reserved, ledger.free


def test_released_sequences_are_free_again() -> None:
    ledger = Ledger(10)
    with ledger.reserve(4) as account:
        account.commit(1)
        account.commit(2)
        assert parts(ledger) == (3, 1, 6)
    assert parts(ledger) == (3, 0, 7)


def test_a_failure_releases_the_reserved_sequences() -> None:
    ledger = Ledger(10)

    def fail_after_one() -> NoReturn:
        with ledger.reserve(4) as account:
            account.commit(1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_one()
    assert parts(ledger) == (1, 0, 9)


@pytest.mark.parametrize("wanted", [0, -1, 11])
def test_no_more_than_the_free_sequences_can_be_reserved(wanted: int) -> None:
    with pytest.raises(ValueError, match=f"cannot reserve {wanted} sequences: 10 are free"):
        Ledger(10).reserve(wanted)


@pytest.mark.parametrize("wanted", [-1, 4])
def test_no_more_than_the_reserved_sequences_can_be_committed(wanted: int) -> None:
    with pytest.raises(ValueError, match=f"cannot commit {wanted} sequences: 3 are reserved"):
        Ledger(10).reserve(3).commit(wanted)


def test_a_second_release_returns_no_sequence() -> None:
    ledger = Ledger(5)
    account = ledger.reserve(5)
    assert (account.release(), account.release()) == (5, 0)
    assert parts(ledger) == (0, 0, 5)


def test_a_negative_total_is_refused() -> None:
    with pytest.raises(ValueError, match="total is -1"):
        Ledger(-1)


def test_many_threads_never_break_the_sum() -> None:
    ledger, num_prompts, granted = Ledger(64 * 8), 64, 8

    def run(seed: int) -> int:
        generator, used = random.Random(seed), 0
        with ledger.reserve(granted) as account:
            while account.spent < granted and generator.random() < 0.8:
                account.commit(1)
                used += 1
        return used

    with ThreadPoolExecutor(16) as pool:
        used = sum(pool.map(run, range(num_prompts)))
    assert parts(ledger) == (used, 0, ledger.total - used)


def test_restored_sequences_are_reserved_until_the_release() -> None:
    ledger = Ledger(10)
    account = ledger.reserve(4)
    account.commit(3)
    account.restore()
    assert (parts(ledger), account.spent) == ((0, 4, 6), 0)
    account.commit(4)
    account.release()
    assert parts(ledger) == (4, 0, 6)


def test_what_is_spent_may_be_left_again() -> None:
    ledger = Ledger(10)
    with ledger.reserve(6) as account:
        account.set_spent(5)
        account.set_spent(3)
        assert (account.spent, ledger.spent, ledger.reserved, ledger.free) == (3, 3, 3, 4)
        for number in (-1, 7):
            with pytest.raises(ValueError, match=f"cannot spend {number} sequences of 6"):
                account.set_spent(number)
    assert (ledger.spent, ledger.reserved, ledger.free) == (3, 0, 7)
