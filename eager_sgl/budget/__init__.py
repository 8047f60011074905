"""Budgets of a run: who may spend how much. `eager_sgl` exports the names of users.

`Ledger` counts sequences over all prompts, `Reallocation` and its `RULES` grant the surplus of
EAGer-init, `TokenLedger` lets searches bid for shared tokens, and `TokenPrice` sells tokens at a
price. Ledgers own the counts and may be used from any thread; programs get an `Account` or a
`Bidder` per prompt.
"""
