"""EAGer: entropy-aware branching for reasoning models on SGLang (arXiv 2510.11170).

Where to look for names:

- to generate: `Client` or `AsyncClient` on running servers, or on an `EmbeddedRuntime`; a method
  (`EagerInit`, `FullParallel`, `BestFirst`, `TrieParallel`, `Vote`, `WithoutReplacement`) with its
  configuration. The result is a `PromptResult`, see `eager_sgl.core`; events of streams are in
  `eager_sgl.generate.events`.
- in an SGLang program: `connect`, `set_prompt`, `eager_generate`, `continue_from` and `fork`.
- to branch in a program of your own: `read_chunk`, `append_tokens`, and `eager_sgl.signals`.
- to share sequences or tokens between prompts: `eager_sgl.budget`.
- to decide what a search opens and when it ends: `eager_sgl.search`.
- to vote on answers: `eager_sgl.voting`.
- exceptions: `eager_sgl.errors`.

Importing the package imports neither sglang nor torch; the names that need them load on first use.
Such a name must not be the name of a module or folder of the package, which would replace it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from eager_sgl.adaptive_threshold import AdaptiveThreshold
from eager_sgl.budget.bidding import TokenPrice
from eager_sgl.budget.reallocation import RULES, Grant, Reallocation, StageOne
from eager_sgl.budget.sequences import Account, Ledger
from eager_sgl.budget.tokens import Bidder, TokenLedger
from eager_sgl.config import EagerConfig, SamplingConfig
from eager_sgl.core import (
    BranchPoint,
    DeferredBranch,
    PromptResult,
    Sequence,
    TokenCounts,
    Verifier,
    VoteOutcome,
)
from eager_sgl.errors import EagerError, RuntimeStartError, ServerError
from eager_sgl.methods import (
    BestFirst,
    EagerInit,
    FullParallel,
    Method,
    Search,
    TrieParallel,
    Vote,
    WithoutReplacement,
)
from eager_sgl.search.probing import Probing
from eager_sgl.search.rounds import SearchConfig
from eager_sgl.search.stopping import Consensus, Solved, Stop, Unexplored
from eager_sgl.search.utility import BestEntry, Utility, VoteUncertainty
from eager_sgl.voting.cutting import Cutting
from eager_sgl.voting.deciding import BetaRule, ConsensusShare, ModeTest, VoteRule

if TYPE_CHECKING:
    from eager_sgl.embedded.runtime import EmbeddedRuntime
    from eager_sgl.engine.client import Prompt
    from eager_sgl.engine.frontend.endpoint import TokenEndpoint, connect
    from eager_sgl.generate.blocking import BlockingStream, Client
    from eager_sgl.generate.client import AsyncClient
    from eager_sgl.generate.mapping import MapItem
    from eager_sgl.generate.observers import OnProgress
    from eager_sgl.generate.results import partial_of
    from eager_sgl.generate.stream import Stream
    from eager_sgl.program import continue_from, eager_generate, set_prompt
    from eager_sgl.states import SequenceStates, append_tokens, fork, read_chunk

__all__ = [
    "RULES",
    "Account",
    "AdaptiveThreshold",
    "AsyncClient",
    "BestEntry",
    "BestFirst",
    "BetaRule",
    "Bidder",
    "BlockingStream",
    "BranchPoint",
    "Client",
    "Consensus",
    "ConsensusShare",
    "Cutting",
    "DeferredBranch",
    "EagerConfig",
    "EagerError",
    "EagerInit",
    "EmbeddedRuntime",
    "FullParallel",
    "Grant",
    "Ledger",
    "MapItem",
    "Method",
    "ModeTest",
    "OnProgress",
    "Probing",
    "Prompt",
    "PromptResult",
    "Reallocation",
    "RuntimeStartError",
    "SamplingConfig",
    "Search",
    "SearchConfig",
    "Sequence",
    "SequenceStates",
    "ServerError",
    "Solved",
    "StageOne",
    "Stop",
    "Stream",
    "TokenCounts",
    "TokenEndpoint",
    "TokenLedger",
    "TokenPrice",
    "TrieParallel",
    "Unexplored",
    "Utility",
    "Verifier",
    "Vote",
    "VoteOutcome",
    "VoteRule",
    "VoteUncertainty",
    "WithoutReplacement",
    "append_tokens",
    "connect",
    "continue_from",
    "eager_generate",
    "fork",
    "partial_of",
    "read_chunk",
    "set_prompt",
]

__version__ = "0.1.0"

_LAZY = {
    "AsyncClient": "eager_sgl.generate.client",
    "BlockingStream": "eager_sgl.generate.blocking",
    "Client": "eager_sgl.generate.blocking",
    "EmbeddedRuntime": "eager_sgl.embedded.runtime",
    "MapItem": "eager_sgl.generate.mapping",
    "OnProgress": "eager_sgl.generate.observers",
    "Prompt": "eager_sgl.engine.client",
    "SequenceStates": "eager_sgl.states",
    "Stream": "eager_sgl.generate.stream",
    "TokenEndpoint": "eager_sgl.engine.frontend.endpoint",
    "append_tokens": "eager_sgl.states",
    "connect": "eager_sgl.engine.frontend.endpoint",
    "continue_from": "eager_sgl.program",
    "eager_generate": "eager_sgl.program",
    "fork": "eager_sgl.states",
    "partial_of": "eager_sgl.generate.results",
    "read_chunk": "eager_sgl.states",
    "set_prompt": "eager_sgl.program",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
