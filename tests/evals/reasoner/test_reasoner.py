"""The tiny reasoner's data, tokenizer and shipped model folder."""

import json
import random
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from evals.reasoner.chains import (
    LEVELS,
    MAX_ATTEMPTS,
    Span,
    Step,
    generate_chain,
    held_out_problems,
    write_chain,
)
from evals.reasoner.tokenizer import THINK_END, build_tokenizer
from evals.tasks.countdown_rules import Problem, instruction, is_correct, parse_answer

EVALS = Path(__file__).parents[3] / "evals"
PROMPTS = EVALS / "tasks" / "countdown.jsonl"
MODEL = EVALS / "reasoner" / "model"
MAX_MODEL_BYTES = 4_000_000


def text_of(spans: list[Span]) -> str:
    return "".join(span.text for span in spans)


@pytest.fixture(scope="module")
def held_out() -> list[Problem]:
    rows = [json.loads(line) for line in PROMPTS.read_text().splitlines()]
    return [Problem(tuple(row["numbers"]), row["target"], row["level"]) for row in rows]


@pytest.fixture(scope="module")
def chains(held_out: list[Problem]) -> list[tuple[Problem, list[Span]]]:
    rng, excluded = random.Random(7), {problem.key for problem in held_out}
    return [generate_chain(rng, excluded) for _ in range(3000)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


def test_a_chain_with_a_retry_is_as_documented() -> None:
    problem = Problem((3, 8, 3, 18), 21, 4)
    failed = (Step(18, "*", 3, 54), Step(54, "-", 8, 46), Step(46, "+", 3, 49))
    solved = (Step(8, "+", 3, 11), Step(18, "-", 11, 7), Step(7, "*", 3, 21))
    spans = list(write_chain(random.Random(0), problem, [failed, solved]))
    assert text_of(spans) == (
        "1:18*03=54;03 08 54\n54-08=46;03 46\n46+03=49~21=28 no\n"
        "2:08+03=11;03 18 11\n18-11=07;03 07\n07*03=21~21=00 ok</think>(18-(08+03))*03"
    )
    assert [span.text for span in spans if not span.trained] == ["18*03", "54-08", "46+03"]


def test_the_rules_judge_written_chains_right(
    chains: list[tuple[Problem, list[Span]]],
) -> None:
    for problem, spans in chains:
        text = text_of(spans)
        answer = parse_answer(text)
        assert answer is not None
        assert is_correct(problem, answer) is (" ok</think>" in text), (problem, text)


def test_only_choices_of_failed_attempts_are_masked(
    chains: list[tuple[Problem, list[Span]]],
) -> None:
    for problem, spans in chains:
        num_masked = sum(not span.trained for span in spans)
        num_failed = text_of(spans).count(" no")
        assert num_masked == num_failed * (len(problem.numbers) - 1)
        assert all(len(span.text) == 5 for span in spans if not span.trained)


def test_chains_cover_levels_and_every_number_of_attempts(
    chains: list[tuple[Problem, list[Span]]],
) -> None:
    levels = Counter(problem.level for problem, _ in chains)
    attempts = Counter(text_of(spans).count(":") for _, spans in chains)
    assert sorted(levels) == sorted(LEVELS)
    assert sorted(attempts) == list(range(1, MAX_ATTEMPTS + 1))


def test_generation_is_deterministic_under_a_seed() -> None:
    def generated(seed: int) -> list[tuple[Problem, list[Span]]]:
        rng = random.Random(seed)
        return [generate_chain(rng, set()) for _ in range(50)]

    assert generated(3) == generated(3)
    assert generated(3) != generated(4)
    assert held_out_problems(3, 20) == held_out_problems(3, 20)
    assert held_out_problems(3, 20) != held_out_problems(4, 20)


def test_the_held_out_prompts_are_those_generated(held_out: list[Problem]) -> None:
    assert held_out == held_out_problems(seed=1, num_per_level=150)
    assert Counter(problem.level for problem in held_out) == dict.fromkeys(LEVELS, 150)
    assert len({problem.key for problem in held_out}) == len(held_out)


def test_no_held_out_key_is_generated_for_training(
    held_out: list[Problem], chains: list[tuple[Problem, list[Span]]]
) -> None:
    keys = {problem.key for problem in held_out}
    assert not keys & {problem.key for problem, _ in chains}
    rng = random.Random(7)
    unfiltered = {generate_chain(rng, set())[0].key for _ in range(3000)}
    assert keys & unfiltered, "without the exclusion some would be generated"


def test_tokenizer_round_trips_exactly(
    tokenizer: Any, held_out: list[Problem], chains: list[tuple[Problem, list[Span]]]
) -> None:
    prompts = [instruction(problem) for problem in held_out]
    responses = [text_of(spans) for _, spans in islice(chains, 1000)]
    for text in [*prompts, *responses, " \n\n  1 \n", "<think></think>"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


def test_the_shipped_tokenizer_equals_the_built_tokenizer(tokenizer: Any) -> None:
    built = build_tokenizer()
    assert tokenizer.get_vocab() == built.get_vocab()
    assert tokenizer.chat_template == built.chat_template


def test_chat_template_opens_the_reasoning(tokenizer: Any) -> None:
    message = {"role": "user", "content": "make 02 from 03 08 03 18"}
    text = tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
    token_ids = tokenizer.apply_chat_template(
        [message], add_generation_prompt=True, return_dict=False
    )
    assert text == "<|begin|><|user|>make 02 from 03 08 03 18<|assistant|><think>"
    assert tokenizer.encode(text) == token_ids
    assert token_ids.count(tokenizer.bos_token_id) == 1


def test_every_token_of_the_vocabulary_is_used(
    tokenizer: Any, held_out: list[Problem], chains: list[tuple[Problem, list[Span]]]
) -> None:
    message = {"role": "user", "content": instruction(held_out[0])}
    used = set(tokenizer.encode("<|end|>"))
    used |= set(
        tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=False)
    )
    for _, spans in islice(chains, 300):
        used |= set(tokenizer.encode(text_of(spans)))
    assert used == set(range(len(tokenizer)))
    assert len(tokenizer) >= 24


def test_shipped_model_is_small_and_its_configuration_fits_the_tokenizer(tokenizer: Any) -> None:
    config = json.loads((MODEL / "config.json").read_text())
    generation = json.loads((MODEL / "generation_config.json").read_text())
    assert config["model_type"] == "llama"
    assert config["head_dim"] == 64
    assert config["vocab_size"] == len(tokenizer)
    assert config["eos_token_id"] == generation["eos_token_id"] == tokenizer.eos_token_id
    assert_sampling_is_servable(generation)
    assert sum(file.stat().st_size for file in MODEL.iterdir()) <= MAX_MODEL_BYTES


def assert_sampling_is_servable(generation: Any) -> None:
    """The defaults of SGLang's OpenAI routes, which refuse a top-k of 0 for "all"."""
    assert (generation["temperature"], generation["top_p"]) == (0.6, 0.95)
    assert "top_k" not in generation


def test_training_writes_a_folder_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_out: list[Problem]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from evals.reasoner import train

    folder, prompts = tmp_path / "model", tmp_path / "prompts.jsonl"
    monkeypatch.setattr(train, "BATCH_TOKENS", 512)
    for _ in range(2):  # the second run replaces the folder of the first
        options = ["--steps", "2", "--output", str(folder), "--prompts", str(prompts)]
        monkeypatch.setattr("sys.argv", ["train.py", "--threads", "1", *options])
        train.main()
    assert prompts.read_text() == PROMPTS.read_text()
    assert_sampling_is_servable(json.loads((folder / "generation_config.json").read_text()))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.num_parameters() < 1_000_000
    assert len(AutoTokenizer.from_pretrained(folder)) == model.config.vocab_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "prompts.jsonl"]


@pytest.fixture(scope="module")
def model() -> Any:
    import torch
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


def test_sampling_at_no_temperature_is_greedy_decoding(
    model: Any, tokenizer: Any, held_out: list[Problem]
) -> None:
    import torch

    from evals.reasoner.measure import prompt_rows, settings
    from evals.reasoner.sampling import sample

    prompts = prompt_rows(tokenizer, held_out[-3:])
    greedy = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=256,
        do_sample=False,
        temperature=1.0,
        top_p=1.0,
    )
    cold = replace(settings(tokenizer), temperature=1e-4)
    for sequence, row in zip(sample(model, prompts, cold), greedy, strict=True):
        expected = row[prompts.shape[1] :].tolist()
        assert sequence.token_ids == expected[: len(sequence.token_ids)]
        assert sequence.finished
        assert sequence.token_ids[-1] == tokenizer.eos_token_id


def test_branching_stops_at_the_cap_and_at_the_end_of_reasoning(
    model: Any, tokenizer: Any, held_out: list[Problem]
) -> None:
    from evals.reasoner.measure import prompt_rows, settings
    from evals.reasoner.sampling import sample

    prompts = prompt_rows(tokenizer, held_out[-2:])
    for cap in (1, 5):
        eager = replace(settings(tokenizer), threshold=0.0, max_sequences=cap)
        samples = sample(model, prompts, eager)
        assert Counter(sequence.prompt for sequence in samples) == {0: cap, 1: cap}
        assert len({tuple(sequence.token_ids) for sequence in samples}) == len(samples)
        for sequence in samples:
            shared_ids = sequence.token_ids[: sequence.num_shared]
            assert THINK_END not in tokenizer.decode(shared_ids)
