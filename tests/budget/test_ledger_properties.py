"""Any order of reserving, committing, releasing, failing and granting keeps the ledger's sums."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from eager_sgl import RULES, Account, Grant, Ledger, Reallocation, StageOne

NUM_PROMPTS, M = 12, 6


class LedgerMachine(RuleBasedStateMachine):
    """All operations on a ledger, in any order."""

    accounts: Bundle[Account | None] = Bundle("accounts")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(NUM_PROMPTS * M)
        self.open_accounts: list[Account] = []
        self.spent = 0

    @rule(target=accounts, wanted=st.integers(-1, 3 * M))
    def reserve(self, wanted: int) -> Account | None:
        free = self.ledger.free
        if not 1 <= wanted <= free:
            with pytest.raises(ValueError, match=f"{free} are free"):
                self.ledger.reserve(wanted)
            return None
        account = self.ledger.reserve(wanted)
        self.open_accounts.append(account)
        return account

    @rule(account=accounts, number=st.integers(-1, 2 * M))
    def commit(self, account: Account | None, number: int) -> None:
        if account is None:
            return
        left = account.granted - account.spent
        if 0 <= number <= left:
            account.commit(number)
            self.spent += number
        else:
            with pytest.raises(ValueError, match=f"{left} are reserved"):
                account.commit(number)

    @rule(account=consumes(accounts), fails=st.booleans())
    def finish(self, account: Account | None, fails: bool) -> None:
        if account is None:
            return
        if fails:
            with pytest.raises(RuntimeError), account:
                raise RuntimeError
        else:
            account.release()
        self.open_accounts.remove(account)

    @invariant()
    def everything_adds_up(self) -> None:
        ledger = self.ledger
        reserved = sum(account.granted - account.spent for account in self.open_accounts)
        assert (ledger.spent, ledger.reserved) == (self.spent, reserved)
        assert ledger.spent + ledger.reserved + ledger.free == ledger.total
        assert min(ledger.spent, ledger.reserved, ledger.free) >= 0


LedgerMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestLedger = LedgerMachine.TestCase


class RunMachine(RuleBasedStateMachine):
    """A run of two stages whose prompts finish in any order; certain grants are reserved."""

    policy: Reallocation
    ledger: Ledger
    names: list[str]
    first: dict[str, Account]
    second: dict[str, Account]
    stage_ones: dict[str, StageOne]
    granted: dict[str, Grant]

    @initialize(
        name=st.sampled_from(sorted(RULES)),
        factor=st.sampled_from([0.5, 1, 2, 3]),
        num_prompts=st.integers(1, NUM_PROMPTS),
    )
    def begin(self, name: str, factor: float, num_prompts: int) -> None:
        self.policy = replace(RULES[name], max_extra_factor=factor)
        self.ledger = Ledger(num_prompts * M)
        self.names = [str(number) for number in range(num_prompts)]
        self.first = {name: self.ledger.reserve(M) for name in self.names}
        self.second = {}
        self.stage_ones, self.granted = {}, {}

    @precondition(lambda self: self.first)
    @rule(data=st.data(), spent=st.sampled_from([1, 1, 1, 2, M]), solved=st.booleans())
    def finish_first(self, data: st.DataObject, spent: int, solved: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.first)))
        with self.first.pop(name) as account:
            account.commit(spent)
        self.stage_ones[name] = StageOne(spent, M, solved)

    @rule()
    def grant(self) -> None:
        finished = {name: self.stage_ones[name] for name in self.names if name in self.stage_ones}
        grants = self.policy.certain_grants(finished, len(self.names), threshold=1.0)
        for name, grant in grants.items():
            assert self.granted.setdefault(name, grant) == grant, "a certain grant has changed"
            if grant.extra and name not in self.second:
                # The ledger refuses more than is free.
                self.second[name] = self.ledger.reserve(grant.extra)

    @precondition(lambda self: self.second)
    @rule(data=st.data(), fails=st.booleans())
    def finish_second(self, data: st.DataObject, fails: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.second)))
        account = self.second[name]
        account.commit(data.draw(st.integers(0, account.granted - account.spent)))
        if fails:
            with pytest.raises(RuntimeError), account:
                raise RuntimeError
        else:
            account.release()

    @invariant()
    def everything_adds_up(self) -> None:
        accounts = [*self.first.values(), *self.second.values()]
        reserved = sum(account.granted - account.spent for account in accounts)
        spent = sum(stage_one.num_sequences for stage_one in self.stage_ones.values())
        spent += sum(account.spent for account in self.second.values())
        ledger = self.ledger
        assert (ledger.spent, ledger.reserved) == (spent, reserved)
        assert ledger.spent + ledger.reserved + ledger.free == ledger.total
        assert min(ledger.spent, ledger.reserved, ledger.free) >= 0

    def teardown(self) -> None:
        """At any point, the free sequences suffice for all final grants."""
        for name, account in sorted(getattr(self, "first", {}).items()):
            account.release()
            self.stage_ones[name] = StageOne(0, M, solved=False)
        if hasattr(self, "names"):
            self.grant()


RunMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestRun = RunMachine.TestCase
