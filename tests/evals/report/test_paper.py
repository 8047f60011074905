"""The figures of the paper beside a run of the same."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from evals.config.presets import PRESETS
from evals.execution.methods import METHODS
from evals.records.header import RunHeader
from evals.report.paper import NUM_PROMPTS, PAPER, PaperRow, paper_row
from evals.report.summarise import summarise_run
from evals.report.table import render_table
from evals.tasks import TASKS
from tests.evals.fakes.sample_run import EAGER, RULE, header, plan, run_records


def run_of(task: str, model: str, num_prompts: int | None = None, **config: Any) -> RunHeader:
    """The whole of a benchmark as the paper runs it, but for what `config` says."""
    a_plan = plan(max_sequences=(32,), num_prompts=num_prompts or NUM_PROMPTS.get(task, 30))
    return header(a_plan, model, task=task, **{"dataset": {"copy": None}} | config)


# Its tables on AIME 2025, HMMT, GPQA-Diamond and HumanEval+: Pass@32 and millions of tokens.
REPORTED = """
aime_2025 Qwen/Qwen3-4B parallel 0.80 17
aime_2025 Qwen/Qwen3-4B eager 0.83 7
aime_2025 deepseek-ai/DeepSeek-R1-0528-Qwen3-8B parallel 0.80 22
aime_2025 deepseek-ai/DeepSeek-R1-0528-Qwen3-8B eager_init 0.73 8
aime_2025 deepseek-ai/DeepSeek-R1-0528-Qwen3-8B eager_adapt 0.80 9
aime_2025 deepseek-ai/DeepSeek-R1-0528-Qwen3-8B eager 0.80 6
hmmt_feb_2025 Qwen/Qwen3-4B parallel 0.50 18
hmmt_feb_2025 Qwen/Qwen3-4B eager 0.60 10
gpqa_diamond Qwen/Qwen3-4B parallel 0.75 65
gpqa_diamond Qwen/Qwen3-4B eager 0.81 34
humaneval_plus openai/gpt-oss-20b parallel 0.95 5
humaneval_plus openai/gpt-oss-20b eager_init 0.97 3
"""


def test_the_paper_s_figures_are_those_of_its_tables() -> None:
    lines = [line.split() for line in REPORTED.strip().splitlines()]
    assert len(lines) == len(PAPER)
    for task, model, method, pass_at_k, million_tokens in lines:
        row = paper_row(run_of(task, model), method, 32)
        assert row == PaperRow(float(pass_at_k), float(million_tokens)), (task, model, method)


def sampled(**sampling: Any) -> dict[str, Any]:
    return {"eager": replace(EAGER, sampling=replace(EAGER.sampling, **sampling))}


@pytest.mark.parametrize(
    ("config", "temperature", "differs"),
    [
        ({}, 0.6, ()),
        ({}, 0.9, ("τ 0.9",)),
        (sampled(top_p=1.0), 0.6, ("top-p 1",)),
        (sampled(max_new_tokens=4096), 1.0, ("τ 1", "new tokens 4096")),
        ({"rules": {"eager": RULE | {"max_extra_factor": 1.0}}}, 0.6, ("extra cap 1",)),
    ],
)
def test_what_a_run_does_otherwise_is_said(
    config: dict[str, Any], temperature: float, differs: tuple[str, ...]
) -> None:
    row = paper_row(run_of("aime_2025", "Qwen/Qwen3-4B", **config), "eager", 32, temperature)
    assert row is not None
    assert row.differs == differs
    assert asdict(row)["differs"] == differs


def test_the_paper_s_row_stands_beside_the_same() -> None:
    for task, preset, method in PAPER:
        assert task in TASKS
        assert preset in PRESETS
        assert method in METHODS
    aime = run_of("aime_2025", "Qwen/Qwen3-4B")
    row = paper_row(aime, "eager", 32)
    assert row is not None
    assert asdict(row) == {
        "pass_at_k": 0.83,
        "million_tokens": 7,
        "differs": (),
        "source": "arXiv 2510.11170",
    }


@pytest.mark.parametrize(
    ("run_header", "method", "max_sequences"),
    [
        (run_of("aime_2025", "Qwen/Qwen3-4B"), "eager", 16),
        (run_of("aime_2025", "Qwen/Qwen3-4B"), "eager_init", 32),
        (run_of("aime_2025", "Qwen/Qwen3-14B"), "eager", 32),
        (run_of("aime_2024", "Qwen/Qwen3-4B"), "eager", 32),
        (run_of("aime_2025", "Qwen/Qwen3-4B", num_prompts=10), "eager", 32),
        (run_of("aime_2025", "Qwen/Qwen3-4B", dataset={"copy": "aime"}), "eager", 32),
        (run_of("aime_2025", "Qwen/Qwen3-4B", verifier="length"), "eager", 32),
        (run_of("aime_2025", "Qwen/Qwen3-4B-AWQ"), "eager", 32),
        (run_of("aime_2025", "Qwen/Qwen3-4B-FP8"), "eager", 32),
        (run_of("aime_2025", "me/Qwen3-4B-GPTQ-Int4"), "eager", 32),
    ],
)
def test_what_is_not_the_same_has_no_paper_row(
    run_header: RunHeader, method: str, max_sequences: int
) -> None:
    assert paper_row(run_header, method, max_sequences) is None


def test_the_paper_s_figures_are_in_table_and_sentence() -> None:
    a_plan = plan(max_sequences=(32,))
    whole = run_of("aime_2025", "Qwen/Qwen3-4B")
    table = render_table(summarise_run(whole, run_records(a_plan), a_plan, {}))
    (line,) = [line for line in table.splitlines() if line.startswith("the paper's Pass@32")]
    assert line.split()[3:] == ["0.80", "–", "–", "0.83"]
    assert "eager 0.83 with 7 M tokens" in " ".join(table.split())
