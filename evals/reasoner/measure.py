"""Measures the figures of the model card: `python evals/reasoner/measure.py` prints Markdown.

Plain sampling gives pass rates, lengths and entropies; a rough simulation of EAGer-init gives the
number of sequences at several thresholds.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from evals.reasoner.sampling import SampledSequence, SamplingSettings, sample
from evals.reasoner.styles import STYLES
from evals.reasoner.tables import (
    MeasuredProblem,
    correlation_table,
    level_table,
    parallel_table,
)
from evals.reasoner.tokenizer import THINK_END
from evals.reasoner.train import MODEL_FOLDERS, encode_prompt
from evals.tasks.countdown import PROMPTS, read_problems
from evals.tasks.countdown_rules import Problem, is_correct, parse_answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NUM_ROWS_PER_BATCH = 256
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    folder = arguments.model or MODEL_FOLDERS[arguments.style]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    problems = load_problems(arguments.prompts, arguments.prompts_per_level)
    measured = measure(model, tokenizer, problems, arguments.samples)
    tables = level_table(measured), correlation_table(measured), parallel_table(measured)
    print("\n\n".join("\n".join(table) for table in tables), flush=True)
    problems = load_problems(arguments.prompts, arguments.simulated_per_level)
    table = threshold_table(
        model, tokenizer, problems, arguments.max_sequences, arguments.thresholds
    )
    print("\n".join(["", *table]))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", choices=STYLES, default="plain")
    parser.add_argument("--model", type=Path, help="default: the bundled model of the style")
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--prompts-per-level", type=int, default=150)
    parser.add_argument("--simulated-per-level", type=int, default=50)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--max-sequences", type=int, default=16, help="M of the simulation")
    parser.add_argument("--thresholds", type=float, nargs="+", default=THRESHOLDS, metavar="NATS")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def load_problems(path: Path, num_per_level: int) -> list[Problem]:
    """The first problems of every level."""
    counts: Counter[int] = Counter()
    problems = []
    for _, problem in read_problems(path):
        counts[problem.level] += 1
        if counts[problem.level] <= num_per_level:
            problems.append(problem)
    return problems


def measure(
    model: LlamaForCausalLM,
    tokenizer: "PreTrainedTokenizerBase",
    problems: list[Problem],
    num_samples: int,
) -> list[MeasuredProblem]:
    num_problems = max(1, NUM_ROWS_PER_BATCH // num_samples)
    measured = []
    for batch in same_length_batches(problems, num_problems):
        rows = [problem for problem in batch for _ in range(num_samples)]
        samples = sample(model, prompt_rows(tokenizer, rows), settings(tokenizer))
        for index, problem in enumerate(batch):
            sequences = samples[index * num_samples : (index + 1) * num_samples]
            measured.append(summarise(tokenizer, problem, sequences))
    return measured


def same_length_batches(problems: list[Problem], size: int) -> Iterator[list[Problem]]:
    """Batches of problems with equally many numbers, hence with equally long prompts."""
    by_length: dict[int, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_length[len(problem.numbers)].append(problem)
    for group in by_length.values():
        yield from (group[start : start + size] for start in range(0, len(group), size))


def prompt_rows(tokenizer: "PreTrainedTokenizerBase", problems: list[Problem]) -> torch.Tensor:
    return torch.tensor([encode_prompt(tokenizer, problem) for problem in problems])


def settings(tokenizer: "PreTrainedTokenizerBase") -> SamplingSettings:
    think_end_id = tokenizer.convert_tokens_to_ids(THINK_END)
    return SamplingSettings(end_id=tokenizer.eos_token_id, think_end_id=think_end_id)


def summarise(
    tokenizer: "PreTrainedTokenizerBase", problem: Problem, sequences: list[SampledSequence]
) -> MeasuredProblem:
    return MeasuredProblem(
        problem=problem,
        correct=[judge(tokenizer, problem, sequence) for sequence in sequences],
        num_tokens=[len(sequence.token_ids) for sequence in sequences],
        num_truncated=sum(not sequence.finished for sequence in sequences),
        entropies=[entropy for sequence in sequences for entropy in sequence.entropies],
        peak_entropy=float(np.mean([mean_peak(sequence.entropies) for sequence in sequences])),
    )


def judge(
    tokenizer: "PreTrainedTokenizerBase", problem: Problem, sequence: SampledSequence
) -> bool:
    answer = parse_answer(tokenizer.decode(sequence.token_ids, skip_special_tokens=True))
    return answer is not None and is_correct(problem, answer)


def mean_peak(entropies: list[float]) -> float:
    """Mean entropy of the steps at or above the 99.9th percentile of the sequence, in nats."""
    values = np.array(entropies)
    return float(values[values >= np.quantile(values, 0.999)].mean())


def threshold_table(
    model: LlamaForCausalLM,
    tokenizer: "PreTrainedTokenizerBase",
    problems: list[Problem],
    max_sequences: int,
    thresholds: Iterable[float] = THRESHOLDS,
) -> Iterator[str]:
    """A rough simulation of EAGer-init, with a row per threshold."""
    header = "θ | one sequence | saturated | sequences | by level | decoded per prompt | pass@k"
    yield f"| {header} |"
    yield "|---|---|---|---|---|---|---|"
    for threshold in thresholds:
        branching = replace(settings(tokenizer), threshold=threshold, max_sequences=max_sequences)
        trees = [
            (problem, [sequence for sequence in sequences if sequence.prompt == index])
            for batch in same_length_batches(problems, NUM_ROWS_PER_BATCH // max_sequences)
            for sequences in [sample(model, prompt_rows(tokenizer, batch), branching)]
            for index, problem in enumerate(batch)
        ]
        yield f"| {threshold} | " + " | ".join(tree_cells(tokenizer, trees, max_sequences)) + " |"


def tree_cells(
    tokenizer: "PreTrainedTokenizerBase",
    trees: list[tuple[Problem, list[SampledSequence]]],
    max_sequences: int,
) -> list[str]:
    counts = np.array([len(tree) for _, tree in trees])
    levels = np.array([problem.level for problem, _ in trees])
    decoded = [sum(len(s.token_ids) - s.num_shared for s in tree) for _, tree in trees]
    solved = [any(judge(tokenizer, problem, s) for s in tree) for problem, tree in trees]
    return [
        f"{np.mean(counts == 1):.2f}",
        f"{np.mean(counts == max_sequences):.2f}",
        f"{counts.mean():.1f}",
        " / ".join(f"{counts[levels == level].mean():.1f}" for level in np.unique(levels)),
        f"{np.mean(decoded):.0f}",
        f"{np.mean(solved):.3f}",
    ]


if __name__ == "__main__":
    main()
