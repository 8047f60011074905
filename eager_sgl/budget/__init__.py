"""Budgets of a run: who may spend how much. `eager_sgl` exports the names of users.

`Ledger` counts sequences over all prompts, `Reallocation` and its `RULES` grant the surplus of
EAGer-init, and `TokenLedger` lets searches bid for shared tokens. Ledgers own the counts and may be
used from any thread; programs get an `Account` or a `Bidder` per prompt.
"""
