"""The prompts of the faults, and whether their results are whole, sound, and the same as ever."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Literal

from eager_sgl import (
    EagerConfig,
    EagerInit,
    FullParallel,
    Method,
    PromptResult,
    SamplingConfig,
    SearchConfig,
    TrieParallel,
    partial_of,
)
from evals.tasks import find_task

__all__ = ["METHODS", "PROMPTS", "Outcome", "Tally", "Trees"]

NUM_PROMPTS = 32
MAX_SEQUENCES = 4
PROMPTS = [sample.prompt for sample in find_task("countdown").load(NUM_PROMPTS, None, 1)]
GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=400)
SAMPLED = SamplingConfig(temperature=1.0, max_new_tokens=400)

Outcome = PromptResult | BaseException
"""What a prompt ended with."""
Tree = list[tuple[tuple[int, ...], int | None, int]]
"""The tokens, parent and branch position of every sequence; the first has position −1."""
Trees = dict[int, Tree]
"""The trees of undisturbed greedy prompts, by prompt."""


def _eager(monitor: Literal["gate", "chunk"], sampling: SamplingConfig) -> Method:
    return EagerInit(
        EagerConfig(
            threshold=0.7,
            max_sequences=MAX_SEQUENCES,
            monitor=monitor,
            chunk_tokens=16,
            sampling=sampling,
        )
    )


KINDS: tuple[Method, ...] = (
    _eager("gate", GREEDY),
    _eager("chunk", GREEDY),
    FullParallel(GREEDY, MAX_SEQUENCES),
    _eager("gate", SAMPLED),
    _eager("chunk", SAMPLED),
    FullParallel(SAMPLED, MAX_SEQUENCES),
    TrieParallel(SearchConfig(max_sequences=MAX_SEQUENCES, sampling=SAMPLED)),
)
METHODS = list(islice(cycle(KINDS), NUM_PROMPTS))
"""The method of every prompt."""


def tree_of(result: PromptResult) -> Tree:
    return [
        (s.token_ids, s.parent, s.branch.position if s.branch else -1) for s in result.sequences
    ]


@dataclass
class Tally:
    """Counts the outcomes of prompts.

    Attributes:
        undisturbed: the trees that greedy prompts must have; empty to collect them.
        num_prompts: that were started.
        whole, partial, failed: results, partial results, and errors without any.
        doubled: outcomes after the first of a prompt, and tokens that a sequence holds twice.
        num_counted: generated tokens, by the results.
        faults: in words, of results that are not as they must be.
    """

    undisturbed: Mapping[int, Tree]
    num_prompts: int = 0
    whole: int = 0
    partial: int = 0
    failed: int = 0
    doubled: int = 0
    num_counted: int = 0
    faults: list[str] = field(default_factory=list)
    trees: Trees = field(default_factory=dict)
    results: list[PromptResult] = field(default_factory=list)
    errors: set[str] = field(default_factory=set)

    @property
    def lost(self) -> int:
        """Prompts without an outcome."""
        return self.num_prompts - self.whole - self.partial - self.failed

    def add(self, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        """Count the outcomes of all prompts, each with the index of its prompt."""
        self.num_prompts += len(PROMPTS)
        seen: set[int] = set()
        for index, outcome in outcomes:
            if index in seen:
                self.doubled += 1
            else:
                self._add(index, outcome)
            seen.add(index)

    def _add(self, index: int, outcome: Outcome) -> None:
        result = outcome if isinstance(outcome, PromptResult) else partial_of(outcome)
        if isinstance(outcome, Exception):
            self.errors.add(f"{type(outcome).__name__}: {outcome}"[:200])
        if result is None:
            self.failed += 1
            return
        self.whole += not result.stopped
        self.partial += bool(result.stopped)
        self.num_counted += result.counts.generated
        self.results.append(result)
        self.faults += [f"prompt {index}: {fault}" for fault in faults_of(result, METHODS[index])]
        if METHODS[index].sampling is GREEDY:
            self._compare(index, result)

    def _compare(self, index: int, result: PromptResult) -> None:
        tree = tree_of(result)
        self.trees[index] = tree
        if (expected := self.undisturbed.get(index)) is None:
            return
        if tree != expected and not result.stopped:
            self.faults.append(f"prompt {index}: another tree than undisturbed")
        self.faults += [
            f"prompt {index}: a sequence that the undisturbed tree lacks"
            for sequence in tree
            if not _may_become(sequence, expected)
        ]

    def check_texts(self, decode: Callable[[list[tuple[int, ...]]], list[str]]) -> None:
        """Compare the texts of all sequences with those of their tokens."""
        sequences = [s for result in self.results for s in result.sequences if s.text]
        texts = decode([sequence.token_ids for sequence in sequences])
        for sequence, text in zip(sequences, texts, strict=True):
            if sequence.text != text:
                self.faults.append(f"text {sequence.text!r} of the tokens of {text!r}")
        whole = [s for r in self.results if not r.stopped for s in r.sequences]
        self.faults += ["a whole sequence without text" for s in whole if not s.text]


def _may_become(sequence: tuple[tuple[int, ...], int | None, int], whole: Tree) -> bool:
    """Whether a sequence of a partial tree is a part of the whole tree.

    Its branch may also be one that the whole tree undoes, since the last slot went to a branch at
    an earlier position of a sequence behind it.
    """
    path, _, position = sequence
    is_part = any(path == other[: len(path)] for other, *_ in whole)
    return is_part or (len(whole) == MAX_SEQUENCES and position >= max(p for *_, p in whole))


def faults_of(result: PromptResult, method: Method) -> list[str]:
    """What is wrong with a result of a method, in words."""
    paths = [sequence.token_ids for sequence in result.sequences]
    counts = result.counts
    faults = []
    if len(paths) > result.max_sequences or not (paths or result.stopped):
        faults.append(f"{len(paths)} sequences")
    if counts.discarded < 0:
        faults.append(f"{counts.discarded} discarded tokens")
    if counts.naive != sum(map(len, paths)):
        faults.append(f"naive is {counts.naive}, not {sum(map(len, paths))}")
    prefixes = {path[:n] for path in paths for n in range(1, len(path) + 1)}
    num_unique = counts.naive if isinstance(method, FullParallel) else len(prefixes)
    if counts.unique != num_unique:
        faults.append(f"unique is {counts.unique}, not {num_unique}")
    if not result.stopped and any(s.finish_reason == "abort" for s in result.sequences):
        faults.append("an unfinished sequence in a whole result")
    return faults
