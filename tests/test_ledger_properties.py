"""Any order of reserving, taking, releasing, failing and granting keeps the ledger's sums."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from eager_sgl import RULES, Ledger, StageOne

NUM_PROMPTS, M = 12, 6


class LedgerMachine(RuleBasedStateMachine):
    """A run of NUM_PROMPTS prompts, with everything that can happen to it in any order."""

    accounts = Bundle("accounts")

    def __init__(self):
        super().__init__()
        self.ledger = Ledger(NUM_PROMPTS * M)
        self.open_accounts = []
        self.spent = 0
        self.stage_ones = {}

    @rule(target=accounts, wanted=st.integers(-1, 3 * M))
    def reserve(self, wanted):
        free = self.ledger.free
        if not 1 <= wanted <= free:
            with pytest.raises(ValueError, match=f"{free} are free"):
                self.ledger.reserve(wanted)
            return None
        account = self.ledger.reserve(wanted)
        self.open_accounts.append(account)
        return account

    @rule(account=accounts, number=st.integers(-1, 2 * M))
    def take(self, account, number):
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
    def finish(self, account, fails):
        if account is None:
            return
        if fails:
            with pytest.raises(RuntimeError), account:
                raise RuntimeError
        else:
            account.release()
        self.open_accounts.remove(account)
        if account.spent and len(self.stage_ones) < NUM_PROMPTS:
            used = min(account.spent, M)
            self.stage_ones[str(len(self.stage_ones))] = StageOne(used, M, solved=used % 2 == 0)

    @rule(name=st.sampled_from(sorted(RULES)))
    def reallocate(self, name):
        grants = RULES[name].certain_grants(self.stage_ones, NUM_PROMPTS, threshold=1.0)
        for grant in grants.values():
            if 1 <= grant.extra <= self.ledger.free:
                with self.ledger.reserve(grant.extra) as account:
                    account.commit(grant.extra // 2)
                self.spent += grant.extra // 2

    @invariant()
    def everything_adds_up(self):
        ledger = self.ledger
        reserved = sum(account.granted - account.spent for account in self.open_accounts)
        assert (ledger.spent, ledger.reserved) == (self.spent, reserved)
        assert ledger.spent + ledger.reserved + ledger.free == ledger.total
        assert min(ledger.spent, ledger.reserved, ledger.free) >= 0


LedgerMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestLedger = LedgerMachine.TestCase
