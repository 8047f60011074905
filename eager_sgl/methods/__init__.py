"""The methods, one class each: how a prompt is sampled and observed, and what decides on its tree.

The executor and the programs know the protocol `Method` alone. An object has no state of a prompt
and can run any number of prompts in any threads; with a stop rule that has state, or with a bidder,
it belongs to a single prompt.

The seed of a method, together with the prompt's tokens, is that of all draws: of the walks through
the tree, which are made here, and of the tokens where the server honours the seed of a request
(`eager_sgl.engine.seeds`). So the same prompt gives the same tree again. Without a seed nothing is
repeated.
"""

from __future__ import annotations

from eager_sgl.methods.entropy import EagerInit
from eager_sgl.methods.independent import FullParallel
from eager_sgl.methods.protocol import Method, ReadSequences
from eager_sgl.methods.sampling import TrieParallel, WithoutReplacement
from eager_sgl.methods.searches import BestFirst, Search
from eager_sgl.methods.votes import Vote

__all__ = [
    "BestFirst",
    "EagerInit",
    "FullParallel",
    "Method",
    "ReadSequences",
    "Search",
    "TrieParallel",
    "Vote",
    "WithoutReplacement",
]
