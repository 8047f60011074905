"""A whole run, with trees drawn at random and the same every time."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from eager_sgl.core import TokenCounts
from evals.records.header import (
    EagerFields,
    RunHeader,
    SamplingFields,
    SearchFields,
    StoredConfig,
)
from evals.records.plan import PARALLEL, Cell, Plan
from evals.records.record import PromptRecord, SequenceRecord, StageTwo
from tests.evals.fakes.build import BRANCH, record

LEVELS = 3
LENGTH = 40
EAGER = EagerFields(
    top_k=20,
    entropy_temperature=1.0,
    patience=1000,
    chunk_tokens=32,
    monitor="auto",
    reasoning_end="</think>",
    sampling=SamplingFields(top_p=0.95, max_new_tokens=32768, stop_token_ids=()),
)
SEARCH = SearchFields(width=8, stop=None, token_budget=None, bids=None, options={})
RULE = {"max_extra_factor": 2.0, "threshold_factor": 0.8, "max_tries": 1, "late_factor": 0.9}


def plan(**swept: Any) -> Plan:
    """All methods at one value of everything, except where given."""
    names = ("parallel", "eager_init", "eager_adapt", "eager")
    values: dict[str, Any] = {
        "methods": names,
        "max_sequences": (4,),
        "thresholds": (0.7,),
        "temperatures": (0.6,),
        "seeds": (0,),
        "stage_twos": ("restart",),
        "num_prompts": 6,
        "can_vote": True,
    }
    highest = max((values | swept)["max_sequences"])
    return Plan(**{"parallel_sequences": highest} | values | swept)


def header(a_plan: Plan, model: str = "a-model", **config: Any) -> RunHeader:
    """The header of such a run, with these fields of its configuration; `search` by its fields."""
    fields: dict[str, Any] = {
        "task": "countdown",
        "dataset": None,
        "has_labels": True,
        "preset": None,
        "chat_options": {},
        "limit": None,
        "levels": None,
        "prompts_digest": "0",
        "eager": EAGER,
        "rules": {"eager": RULE, "eager_adapt": RULE},
        "verifier": None,
        "calibration": None,
        "adaptive_quantile": None,
        "concurrency": 1,
        "server": None,
    }
    search = replace(SEARCH, **config.pop("search", {}))
    return RunHeader(
        model=model,
        model_digest=None,
        logprobs="tempered",
        versions={"eager_sgl": "0", "server_sglang": "0"},
        config=StoredConfig(plan=a_plan, search=search, **fields | config),
    )


def run_records(a_plan: Plan) -> list[PromptRecord]:
    """A whole run with random trees of one-letter tokens; the same every time."""
    return [
        _tree(cell, number) for cell in a_plan.cells for number in range(1, a_plan.num_prompts + 1)
    ]


def _tree(cell: Cell, number: int) -> PromptRecord:
    level = 1 + number % LEVELS
    rng = random.Random(f"{cell}/{number}")
    highest = cell.max_sequences
    size = highest if cell.method == PARALLEL else rng.randint(min(level, highest), highest)
    sequences = [_sequence(None, None, 1, level, rng)]
    while len(sequences) < size:
        parent = None if cell.method == PARALLEL else rng.randrange(len(sequences))
        sequences.append(_sequence(parent, sequences, 1, level, rng))
    used = level if cell.stage_two and level > 1 else 0
    for _ in range(used):
        parent = rng.randrange(len(sequences)) if cell.stage_two == "resume" else None
        sequences.append(_sequence(parent, sequences, 2, level, rng))
    added = [
        len(sequence.token_ids) - (sequence.branch.position if sequence.branch else 0)
        for sequence in sequences
        if sequence.stage == 2
    ]
    naive = sum(len(sequence.token_ids) for sequence in sequences)
    starts = sum(sequence.branch.position for sequence in sequences if sequence.branch)
    return record(
        [],
        method=cell.method,
        sample_id=f"prompt-{number:03d}",
        counts=TokenCounts(generated=naive - starts, unique=naive - starts, naive=naive),
        max_sequences=highest,
        threshold=cell.threshold,
        temperature=cell.temperature,
        seed=cell.seed,
        level=level,
        sequences=tuple(sequences),
        peak_entropy=None if cell.method == PARALLEL else level / 2 + rng.random(),
        stage_two=StageTwo(cell.stage_two, used > 0, 2 * used, used, 0.7, generated=sum(added))
        if cell.stage_two
        else None,
    )


def _sequence(
    parent: int | None,
    sequences: list[SequenceRecord] | None,
    stage: int,
    level: int,
    rng: random.Random,
) -> SequenceRecord:
    text, branch = "", None
    if parent is not None and sequences is not None:
        before = sequences[parent]
        first = before.branch.position + 1 if before.branch else 1
        position = rng.randrange(first, len(before.token_ids))
        text = before.text[:position]
        branch = replace(BRANCH, position=position, entropy=round(0.7 + rng.random(), 3))
    length = max(len(text) + 2, rng.randint(LENGTH // 2, LENGTH * level))
    text += "".join(rng.choices("abcdefg <&\n", k=length - len(text)))
    correct = rng.random() < 1 / level**2
    return SequenceRecord(
        text=text,
        token_ids=tuple(map(ord, text)),
        finish_reason="stop",
        parent=parent,
        branch=branch,
        answer="right </script>" if correct else rng.choice("xyz"),
        correct=correct,
        explanation="by hand",
        vote=None,
        stage=stage,
    )
