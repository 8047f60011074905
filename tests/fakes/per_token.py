"""EAGer-init token by token, every tree with its exact probability: the reference for chunks."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from eager_sgl.config import EagerConfig
from eager_sgl.core import PromptResult
from tests.fakes.scripted import CLOSE, EOS, Distribution, tempered

Tree = tuple[tuple[tuple[int, ...], int | None, int | None], ...]
"""(tokens, parent, position of the branch) of every sequence."""


@dataclass(frozen=True)
class _State:
    """All sequences so far; `turn` is the next sequence to step at `position`."""

    sequences: Tree
    position: int = 0
    turn: int = 0
    num_at_start: int = 1
    last_branch: int = -1


def tree_of(result: PromptResult) -> Tree:
    return tuple(
        (s.token_ids, s.parent, s.branch.position if s.branch else None) for s in result.sequences
    )


def tree_distribution(distribution: Distribution, config: EagerConfig) -> dict[Tree, float]:
    """Every possible tree with its exact probability."""
    done: dict[Tree, float] = defaultdict(float)
    open_states = {_State((((), None, None),)): 1.0}
    while open_states:
        following: dict[_State, float] = defaultdict(float)
        for state, weight in open_states.items():
            if all(_ended(tokens, config) for tokens, _, _ in state.sequences):
                done[state.sequences] += weight
            else:
                for successor, probability in _step(state, distribution, config):
                    following[successor] += weight * probability
        open_states = following
    return dict(done)


def _ended(tokens: tuple[int, ...], config: EagerConfig) -> bool:
    return (bool(tokens) and tokens[-1] == EOS) or len(tokens) >= config.sampling.max_new_tokens


def _step(
    state: _State, distribution: Distribution, config: EagerConfig
) -> list[tuple[_State, float]]:
    """Advance a sequence by a token; after the last sequence, advance the position."""
    if state.turn >= state.num_at_start:
        return [
            (
                replace(
                    state,
                    position=state.position + 1,
                    turn=0,
                    num_at_start=len(state.sequences),
                ),
                1.0,
            )
        ]
    tokens, parent, branched = state.sequences[state.turn]
    after = replace(state, turn=state.turn + 1)
    if _ended(tokens, config):
        return [(after, 1.0)]
    probabilities = distribution(tokens)
    if _branches(state, tokens, probabilities, config):
        first, second = (int(t) for t in np.argsort(-np.array(probabilities), kind="stable")[:2])
        child = ((*tokens, second), state.turn, state.position)
        grown = _with(state, (*tokens, first), parent, branched)
        return [(replace(after, sequences=(*grown, child), last_branch=state.position), 1.0)]
    drawn = tempered(probabilities, config.sampling.temperature, config.sampling.top_p)
    return [
        (replace(after, sequences=_with(state, (*tokens, int(t)), parent, branched)), float(p))
        for t, p in enumerate(drawn)
        if p > 0
    ]


def _branches(
    state: _State, tokens: tuple[int, ...], probabilities: tuple[float, ...], config: EagerConfig
) -> bool:
    entropy = -sum(p * math.log(p) for p in probabilities)
    return (
        CLOSE not in tokens
        and len(state.sequences) < config.max_sequences
        and state.position - state.last_branch <= config.patience
        and entropy >= config.threshold
    )


def _with(state: _State, tokens: tuple[int, ...], parent: int | None, branched: int | None) -> Tree:
    before, after = state.sequences[: state.turn], state.sequences[state.turn + 1 :]
    return (*before, (tokens, parent, branched), *after)
