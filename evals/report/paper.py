"""The figures of the paper (arXiv 2510.11170), to be shown beside a run of the same.

Pass@32 and millions of generated tokens, from its tables on AIME 2025, HMMT February 2025,
GPQA-Diamond and HumanEval+. It samples at temperature 0.6 and top-p 0.95, in a context of 32k
tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from evals.records.header import RunHeader, StoredConfig

__all__ = ["PAPER", "PaperRow", "paper_row"]

MAX_SEQUENCES = 32


@dataclass(frozen=True)
class PaperRow:
    """One method on one benchmark with one model, M = 32.

    Attributes:
        pass_at_k: Pass@32.
        million_tokens: #T, generated over the whole benchmark.
        differs: where the settings of the run differ, such as "top-p 1".
    """

    pass_at_k: float
    million_tokens: float
    differs: tuple[str, ...] = ()
    source: str = "arXiv 2510.11170"


PAPER: Mapping[tuple[str, str, str], PaperRow] = {
    ("aime_2025", "qwen3-4b", "parallel"): PaperRow(0.80, 17),
    ("aime_2025", "qwen3-4b", "eager"): PaperRow(0.83, 7),
    ("aime_2025", "deepseek-r1-0528-qwen3-8b", "parallel"): PaperRow(0.80, 22),
    ("aime_2025", "deepseek-r1-0528-qwen3-8b", "eager_init"): PaperRow(0.73, 8),
    ("aime_2025", "deepseek-r1-0528-qwen3-8b", "eager_adapt"): PaperRow(0.80, 9),
    ("aime_2025", "deepseek-r1-0528-qwen3-8b", "eager"): PaperRow(0.80, 6),
    ("hmmt_feb_2025", "qwen3-4b", "parallel"): PaperRow(0.50, 18),
    ("hmmt_feb_2025", "qwen3-4b", "eager"): PaperRow(0.60, 10),
    ("gpqa_diamond", "qwen3-4b", "parallel"): PaperRow(0.75, 65),
    ("gpqa_diamond", "qwen3-4b", "eager"): PaperRow(0.81, 34),
    ("humaneval_plus", "gpt-oss-20b", "parallel"): PaperRow(0.95, 5),
    ("humaneval_plus", "gpt-oss-20b", "eager_init"): PaperRow(0.97, 3),
}
"""By task, preset and method."""
NUM_PROMPTS = {"aime_2025": 30, "hmmt_feb_2025": 30, "gpqa_diamond": 198, "humaneval_plus": 164}
TEMPERATURE, TOP_P, MAX_NEW_TOKENS = 0.6, 0.95, 32768
CAPS = {"eager_adapt": 2.0, "eager": 2.0}
"""Maximum of extra sequences of a prompt, in M."""
QUANTISED = re.compile(r"[-_.](fp8|fp4|nvfp4|awq|gptq|int4|int8|gguf|bnb|w\d)", re.IGNORECASE)


def paper_row(
    header: RunHeader, method: str, max_sequences: int, temperature: float = TEMPERATURE
) -> PaperRow | None:
    """The paper's figures for a row of a run, with the settings that differ.

    None where the paper has none, and where the run is not comparable: with fewer prompts, a copy
    of the benchmark, quantised weights, or a verifier.

    Args:
        header: the content of `config.json`.
        method: of the row.
        max_sequences: M of the row.
        temperature: τ of the row.
    """
    from evals.config.presets import preset_for

    preset = preset_for(header.model)
    if preset is None or max_sequences != MAX_SEQUENCES or not _is_comparable(header):
        return None
    row = PAPER.get((header.config.task, preset.name, method))
    return row and replace(row, differs=_differences(header.config, method, temperature))


def _is_comparable(header: RunHeader) -> bool:
    """Whether the run is of the whole benchmark from the hub, with the published weights."""
    config = header.config
    is_whole = config.plan.num_prompts == NUM_PROMPTS.get(config.task)
    is_quantised = QUANTISED.search(header.model) is not None
    return is_whole and not (config.dataset_copy or is_quantised or config.verifier)


def _differences(config: StoredConfig, method: str, temperature: float) -> tuple[str, ...]:
    sampling, rule, cap = config.eager.sampling, config.rules.get(method, {}), CAPS.get(method)
    values = {
        "τ": (temperature, TEMPERATURE),
        "top-p": (sampling.top_p, TOP_P),
        "new tokens": (sampling.max_new_tokens, MAX_NEW_TOKENS),
        "extra cap": (rule.get("max_extra_factor", cap), cap),
    }
    return tuple(f"{name} {ours:g}" for name, (ours, paper) in values.items() if ours != paper)
