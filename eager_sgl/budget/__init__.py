"""Budgets of a run: who may spend how much.

`Ledger` counts sequences over all prompts, `Reallocation` and its `RULES` grant the surplus of
EAGer-init, and `TokenLedger` lets searches bid for shared tokens. Ledgers own the counts and may be
used from any thread; programs get an `Account` or a `Bidder` per prompt.
"""

from __future__ import annotations

from eager_sgl.budget.reallocation import RULES, Grant, Reallocation, StageOne
from eager_sgl.budget.sequences import Account, Ledger
from eager_sgl.budget.tokens import Bidder, TokenLedger

__all__ = [
    "RULES",
    "Account",
    "Bidder",
    "Grant",
    "Ledger",
    "Reallocation",
    "StageOne",
    "TokenLedger",
]
