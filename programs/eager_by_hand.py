"""EAGer-init in plain SGLang: read the logprobs of a chunk, fork where the entropy reaches θ.

All sequences of a prompt generate up to a position; then they branch by position and, at equal
positions, in the order of opening. So slots are taken as if all moved token by token, and the trees
are those of `EagerInit` for any chunk. Prompts of a `run_batch` share a budget.
"""

import threading
from dataclasses import dataclass, field

import numpy as np
import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import EagerConfig, Prompt, append_tokens, read_chunk, set_prompt
from eager_sgl.signals import retemper, top_k_entropy


class Branches:
    """The budget of concurrent prompts: M sequences each, and a number of branches in all."""

    def __init__(self, max_sequences: int, num_left: int) -> None:
        self.max_sequences, self.num_left, self._lock = max_sequences, num_left, threading.Lock()

    def take(self, num_sequences: int) -> bool:
        with self._lock:
            may_branch = num_sequences < self.max_sequences and self.num_left > 0
            self.num_left -= may_branch
            return may_branch


@dataclass
class Path:
    state: ProgramState
    token_ids: tuple[int, ...] = ()
    has_ended: bool = False
    peaks: list[tuple[int, list[int]]] = field(default_factory=list)  # position, top two tokens


def grow(paths: list[Path], until: int, top_k: int, config: EagerConfig, think_end: int) -> None:
    """Generate up to a position; with K, find the peaks before the reasoning closes."""
    paths = [path for path in paths if not path.has_ended and len(path.token_ids) < until]
    options = {"temperature": config.sampling.temperature, "top_p": config.sampling.top_p}
    options |= {"return_logprob": top_k > 0, "top_logprobs_num": top_k}
    for path in paths:
        path.state += sgl.gen("chunk", until - len(path.token_ids), **options)
    for path in paths if top_k else ():
        start, (token_ids, top) = len(path.token_ids), read_chunk(path.state, "chunk")
        entropies = top_k_entropy(retemper(top.logprobs, taken_at=top.temperature, wanted=1.0))
        path.token_ids += token_ids
        path.has_ended = path.state.get_meta_info("chunk")["finish_reason"]["type"] == "stop"
        for step in np.flatnonzero(entropies >= config.threshold).tolist():
            if think_end not in path.token_ids[: start + step]:
                path.peaks.append((start + step, top.token_ids[step, :2].tolist()))


@sgl.function  # type: ignore[untyped-decorator]
def eager_by_hand(
    s: ProgramState, prompt: Prompt, config: EagerConfig, budget: Branches, eos: int, think_end: int
) -> list[ProgramState]:
    """A state at the end of every sequence, in the order of opening."""
    set_prompt(s, prompt)
    paths, until, last, limit = [Path(s.fork(1)[0])], 0, -1, config.sampling.max_new_tokens
    while until < limit:
        until = min(until + config.chunk_tokens, limit)
        grow(paths, until, config.top_k, config, think_end)
        while peaks := [(p.peaks[0][0], index) for index, p in enumerate(paths) if p.peaks]:
            position, index = min(peaks)
            if position - last > config.patience or not budget.take(len(paths)):
                grow(paths, limit, 0, config, think_end)
                return [path.state for path in paths]
            parent, last = paths[index], position
            kept = parent.token_ids[:position]
            for fork, token in zip(s.fork(2).states, parent.peaks[0][1], strict=True):
                paths.append(Path(fork, (*kept, token), has_ended=token == eos))
                append_tokens(fork, kept if token == eos else (*kept, token))
            paths[index] = paths.pop(-2)
            grow([paths[index], paths[-1]], until, config.top_k, config, think_end)
    return [path.state for path in paths]
