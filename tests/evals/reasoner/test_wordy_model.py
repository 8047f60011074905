"""The shipped wordy reasoner: its folder and its answers to held-out prompts."""

import json
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.config.parse import parse_settings
from evals.config.settings import BUNDLED_MODEL
from evals.reasoner.styles import PLAIN, WORDY
from evals.reasoner.tokenizer import build_tokenizer
from evals.tasks.countdown import TASK as PLAIN_TASK
from evals.tasks.countdown_rules import Problem, is_correct, parse_answer
from evals.tasks.countdown_wordy import TASK

MODEL = Path(__file__).parents[3] / "evals" / "reasoner" / "wordy_model"
MAX_MODEL_BYTES = 4_000_000
CARD_PASS_RATE = 0.669
TOLERANCE = 0.12  # three standard errors
NUM_PROMPTS_PER_LEVEL = 15
NUM_SAMPLES = 4
NUM_OPTIONS = {"first opener": 4, "opener": 3, "equals": 2, "linker": 2, "verdict": 3}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def model() -> Any:
    import torch
    from transformers import LlamaForCausalLM

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for so small a model more threads only wait for each other
    yield LlamaForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    samples = TASK.load(4 * NUM_PROMPTS_PER_LEVEL, None, 0)
    return [sample.reference for sample in samples]


@pytest.fixture(scope="module")
def written(model: Any, tokenizer: Any, problems: list[Problem]) -> Any:
    """Pairs of a problem and a sequence."""
    import torch

    from evals.reasoner.positions import sample_written

    torch.manual_seed(0)
    by_length = sorted(problems, key=lambda problem: len(problem.numbers))
    sequences = list(sample_written(model, tokenizer, by_length, NUM_SAMPLES))
    rows = [problem for problem in by_length for _ in range(NUM_SAMPLES)]
    return list(zip(rows, sequences, strict=True))


def test_the_folder_is_small_and_its_configuration_fits_the_tokenizer(tokenizer: Any) -> None:
    config = json.loads((MODEL / "config.json").read_text())
    generation = json.loads((MODEL / "generation_config.json").read_text())
    assert config["vocab_size"] == len(tokenizer) == len(build_tokenizer(WORDY))
    assert config["eos_token_id"] == generation["eos_token_id"] == tokenizer.eos_token_id
    assert "top_k" not in generation
    assert tokenizer.get_vocab() == build_tokenizer(WORDY).get_vocab()
    assert tokenizer.chat_template == build_tokenizer(PLAIN).chat_template
    assert sum(file.stat().st_size for file in MODEL.iterdir()) <= MAX_MODEL_BYTES


def test_its_sequences_round_trip(tokenizer: Any, written: Any) -> None:
    for _, sequence in written:
        text = tokenizer.decode(sequence.token_ids, skip_special_tokens=True)
        assert tokenizer.encode(text) == [
            token for token in sequence.token_ids if token != tokenizer.eos_token_id
        ]


def test_its_pass_rate_is_that_of_its_card(written: Any) -> None:
    """Pass rate of 60 prompts, 4 samples each; the standard error over prompts is about 0.04."""
    correct = []
    for problem, sequence in written:
        answer = parse_answer(sequence.text.removesuffix("<|end|>"))
        correct.append(answer is not None and is_correct(problem, answer))
    assert np.mean(correct) == pytest.approx(CARD_PASS_RATE, abs=TOLERANCE)


def test_entropy_at_a_filler_is_that_of_a_uniform_choice(written: Any) -> None:
    from evals.reasoner.positions import chance_filler_above, entropies_by_kind

    values = entropies_by_kind(WORDY, [sequence for _, sequence in written])
    for kind, num_options in NUM_OPTIONS.items():
        low, middle, high = np.quantile(values[kind], (0.05, 0.5, 0.95))
        assert low == pytest.approx(log(num_options), abs=0.1), kind
        assert middle == pytest.approx(log(num_options), abs=0.03), kind
        assert high == pytest.approx(log(num_options), abs=0.1), kind
    assert chance_filler_above(values) > 0.5, "the highest entropies are not those of decisions"
    assert chance_filler_above(values) < 0.8, "nor are the lowest"


def test_both_orders_of_operands_are_about_equally_likely(
    model: Any, tokenizer: Any, written: Any
) -> None:
    from evals.reasoner.positions import swap_entropies

    sequences = [sequence for _, sequence in written[::10]]
    assert np.median(swap_entropies(model, tokenizer, WORDY, sequences)) > 0.6


def test_kinds_of_a_chain_labelled_by_hand() -> None:
    from evals.reasoner.positions import kinds_of

    texts = ["1", ":", "try ", *"06-05", " is ", *"01", " left ", *"01 09", "\n"]
    texts += ["so ", *"09*01", "=", *"09~02=07", " off", "</think>", *"(06-05)*09", "<|end|>"]
    first, second = ["first operand"] * 2, ["second operand"] * 2
    rest = "everything else"
    expected = [rest, rest, "first opener", *first, "operator", *second, "equals", rest, rest]
    expected += ["linker", *["values"] * 5, rest, "opener", *first, "operator", *second, "equals"]
    expected += [rest] * 8 + ["verdict"] + [rest] * 12
    assert kinds_of(WORDY, texts) == expected


def test_the_task_has_its_model_and_the_prompts_of_the_plain_task() -> None:
    wordy = parse_settings(["--task", TASK.name], ["eager_init"])
    plain = parse_settings([], ["eager_init"])
    assert Path(wordy.server.model) == MODEL
    assert Path(plain.server.model) == BUNDLED_MODEL
    assert wordy.experiment.samples == plain.experiment.samples
    assert (wordy.theta_is_foreign(str(MODEL)), wordy.theta_is_foreign(str(BUNDLED_MODEL))) == (
        False,
        True,
    )
    assert PLAIN_TASK.defaults.model is None
