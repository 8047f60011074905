"""Entropies by kind of token: `python evals/reasoner/positions.py --style wordy`.

Separates decisions (operands, operators) from redundant choices (words, order) and prints a
comparison of their entropies as Markdown. The order of operands is not a separate position but part
of the choice of the first operand, so it is measured from the model's probabilities of both orders.
"""

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM

from evals.reasoner.measure import load_problems, prompt_rows, same_length_batches, settings
from evals.reasoner.sampling import sample
from evals.reasoner.styles import COMMUTATIVE, STYLES, Style
from evals.reasoner.tokenizer import THINK_END
from evals.reasoner.train import MODEL_FOLDERS
from evals.tasks.countdown import PROMPTS
from evals.tasks.countdown_rules import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "WrittenSequence",
    "chance_filler_above",
    "entropies_by_kind",
    "kinds_of",
    "sample_written",
    "swap_entropies",
]

DECISIONS = ("first operand", "operator", "second operand")
FILLERS = ("first opener", "opener", "equals", "linker", "values", "verdict")
REST = "everything else"
PEAK = 0.3  # nats: a choice, not a slip; ln 2 is 0.69
THRESHOLDS = (0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.4)
QUANTILES = (0.1, 0.5, 0.9)
NUM_ROWS_PER_BATCH = 256


@dataclass(frozen=True)
class WrittenSequence:
    """A sequence: tokens of its prompt, then its tokens as ids and texts, and their entropies."""

    prompt_ids: list[int]
    token_ids: list[int]
    texts: list[str]
    entropies: list[float]

    @property
    def text(self) -> str:
        return "".join(self.texts)


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    style, folder = STYLES[arguments.style], arguments.model or MODEL_FOLDERS[arguments.style]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    problems = load_problems(PROMPTS, arguments.prompts_per_level)
    written = list(sample_written(model, tokenizer, problems, arguments.samples))
    values = entropies_by_kind(style, written)
    print("\n".join(kind_table(values, len(written))))
    if style.reorders:
        chance = chance_filler_above(values)
        print(f"\nA filler's peak is above a decision's with probability {chance:.3f}.\n")
        print("\n".join([*threshold_rows(values), ""]))
        print(order_line(swap_entropies(model, tokenizer, style, written)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", choices=STYLES, default="wordy")
    parser.add_argument("--model", type=Path, help="default: the bundled model of the style")
    parser.add_argument("--prompts-per-level", type=int, default=100)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def sample_written(
    model: LlamaForCausalLM,
    tokenizer: "PreTrainedTokenizerBase",
    problems: list[Problem],
    num_samples: int,
) -> Iterator[WrittenSequence]:
    """`num_samples` sequences per problem, sampled as for the model card."""
    for batch in same_length_batches(problems, max(1, NUM_ROWS_PER_BATCH // num_samples)):
        rows = prompt_rows(tokenizer, [problem for problem in batch for _ in range(num_samples)])
        for sequence in sample(model, rows, settings(tokenizer)):
            token_ids, prompt_ids = sequence.token_ids, rows[sequence.prompt].tolist()
            texts = tokenizer.convert_ids_to_tokens(token_ids)
            yield WrittenSequence(prompt_ids, token_ids, texts, sequence.entropies)


def kinds_of(style: Style, texts: Sequence[str]) -> list[str]:
    """The kinds of a sequence's tokens, `REST` for neither decision nor filler."""
    reasoning, _, _ = "".join(texts).partition(THINK_END)
    kind_at = {
        position: name.replace("_", " ")
        for match in _pattern(style).finditer(reasoning)
        for name in match.groupdict()
        for position in range(*match.span(name))
    }
    ends = np.cumsum([len(text) for text in texts])
    return [kind_at.get(int(end) - len(text), REST) for text, end in zip(texts, ends, strict=True)]


def _pattern(style: Style) -> re.Pattern[str]:
    """A step, or the verdict on an attempt; the groups are the kinds."""

    def any_of(options: Iterable[str]) -> str:
        return "|".join(map(re.escape, options))

    step = (
        rf"(?:\d:(?P<first_opener>{any_of(style.first_openers)})|(?P<opener>{any_of(style.openers)}))"
        r"(?P<first_operand>\d\d)(?P<operator>[-+*/])(?P<second_operand>\d\d)"
        rf"(?P<equals>{any_of(style.equals)})\d\d"
        rf"(?:(?P<linker>{any_of(style.linkers)})(?P<values>\d\d(?: \d\d)*))?"
    )
    return re.compile(rf"{step}|~\d\d=\d\d(?P<verdict>{any_of(style.right + style.wrong)})")


def entropies_by_kind(style: Style, written: Iterable[WrittenSequence]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for sequence in written:
        kinds = kinds_of(style, sequence.texts)
        for kind, entropy in zip(kinds, sequence.entropies, strict=True):
            values[kind].append(entropy)
    return values


def kind_table(values: dict[str, list[float]], num_sequences: int) -> Iterator[str]:
    """The peaks by kind."""
    groups = {name: values[name] for name in (*DECISIONS, *FILLERS, REST)}
    groups |= {"all decisions": _joined(values, DECISIONS), "all fillers": _joined(values, FILLERS)}
    quantiles = " | ".join(f"H {quantile:.0%}" for quantile in QUANTILES)
    yield f"| kind | tokens | peaks per sequence | share of peaks | {quantiles} |"
    yield "|---|---|---|---|" + "---|" * len(QUANTILES)
    for name, entropies in groups.items():
        yield f"| {name} | " + " | ".join(_cells(entropies, num_sequences)) + " |"


def chance_filler_above(values: dict[str, list[float]]) -> float:
    """The chance that a random filler's peak exceeds a random decision's; 0.5 if they are alike."""
    fillers, decisions = _peaks(_joined(values, FILLERS)), _peaks(_joined(values, DECISIONS))
    statistic = mannwhitneyu(fillers, decisions).statistic
    return float(statistic / (len(fillers) * len(decisions)))


def threshold_rows(values: dict[str, list[float]]) -> Iterator[str]:
    """The share of decisions among decisions and fillers at or above a threshold."""
    fillers, decisions = np.array(_joined(values, FILLERS)), np.array(_joined(values, DECISIONS))
    yield "| H at least | decisions | fillers | share of decisions |"
    yield "|---|---|---|---|"
    for threshold in THRESHOLDS:
        num_decisions, num_fillers = (int((h >= threshold).sum()) for h in (decisions, fillers))
        share = num_decisions / max(1, num_decisions + num_fillers)
        yield f"| {threshold} | {num_decisions} | {num_fillers} | {share:.2f} |"


def _joined(values: dict[str, list[float]], names: Iterable[str]) -> list[float]:
    return [entropy for name in names for entropy in values[name]]


def _peaks(entropies: list[float]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    values = np.array(entropies)
    return values[values >= PEAK]


def _cells(entropies: list[float], num_sequences: int) -> list[str]:
    peaks = _peaks(entropies)
    counts = [f"{len(entropies)}", f"{len(peaks) / num_sequences:.2f}"]
    share = f"{len(peaks) / len(entropies):.2f}" if entropies else ""
    if not len(peaks):
        return [*counts, share, *[""] * len(QUANTILES)]
    return [*counts, share, *(f"{value:.3f}" for value in np.quantile(peaks, QUANTILES))]


@torch.inference_mode()
def swap_entropies(
    model: LlamaForCausalLM,
    tokenizer: "PreTrainedTokenizerBase",
    style: Style,
    written: Iterable[WrittenSequence],
) -> list[float]:
    """Entropies, in nats, of the order of operands, per commutative step."""
    entropies = []
    for sequence in written:
        rows = list(_both_orders(tokenizer, style, sequence))
        if rows:
            scores = _last_five_log_probabilities(model, rows).view(-1, 2)
            shares = scores.softmax(-1)
            entropies += torch.special.entr(shares).sum(-1).tolist()
    return entropies


def _both_orders(
    tokenizer: "PreTrainedTokenizerBase", style: Style, sequence: WrittenSequence
) -> Iterator[list[int]]:
    """Prefixes that end with a step as written, and those with its operands swapped."""
    reasoning, _, _ = sequence.text.partition(THINK_END)
    for match in _pattern(style).finditer(reasoning):
        first, operator, second = match.group("first_operand", "operator", "second_operand")
        if operator and operator in COMMUTATIVE and first != second:
            before = reasoning[: match.start("first_operand")]
            for step in (first + operator + second, second + operator + first):
                yield sequence.prompt_ids + tokenizer.encode(before + step)


def _last_five_log_probabilities(model: LlamaForCausalLM, rows: list[list[int]]) -> Tensor:
    """The log-probability of the last five tokens (a step) per row: -> [rows]."""
    length = max(map(len, rows))
    padded = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    scores = model(input_ids=padded, use_cache=False).logits.float().log_softmax(-1)
    logprobs = scores[:, :-1].gather(-1, padded[:, 1:, None]).squeeze(-1)  # [rows, length - 1]
    ends = [len(row) - 1 for row in rows]
    return torch.stack([logprobs[i, end - 5 : end].sum() for i, end in enumerate(ends)])


def order_line(entropies: list[float]) -> str:
    low, middle, high = np.quantile(entropies, QUANTILES)
    return (
        f"Operand order: {len(entropies)} commutative steps, H 10 % {low:.3f}, 50 % {middle:.3f}, "
        f"90 % {high:.3f} (ln 2 is {log(2):.3f})."
    )


if __name__ == "__main__":
    main()
