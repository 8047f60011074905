"""The wordy style: its grammar and its redundant choices; the plain style is unchanged."""

import hashlib
import json
import random
from collections import Counter
from itertools import permutations

import pytest
from scipy.stats import chisquare

from evals.reasoner.chains import MAX_ATTEMPTS, Span, Step, generate_chain, write_chain
from evals.reasoner.styles import PLAIN, STYLES, WORDY
from evals.reasoner.tokenizer import build_tokenizer
from evals.tasks.countdown import TASK
from evals.tasks.countdown_rules import Problem, instruction, is_correct
from tests.evals.fakes.wordy_chains import Fillers, Reader

NUM_CHAINS = 3000
# The chance that a right generator fails the test of uniformity, over all of its comparisons;
# the seed is fixed, so that it fails always or never.
ERROR_PROBABILITY = 1e-3
PLAIN_DIGEST = "0cc205a2f0c604d8f483c8293ba9045c97a7cc38d569c26b51639ec3ec88d0bd"

Chain = tuple[Problem, list[Span]]


def text_of(spans: list[Span]) -> str:
    return "".join(span.text for span in spans)


def held_out() -> list[Problem]:
    return [sample.reference for sample in TASK.load(None, None, 0)]


@pytest.fixture(scope="module")
def chains() -> list[Chain]:
    rng, excluded = random.Random(11), {problem.key for problem in held_out()}
    return [generate_chain(rng, excluded, WORDY) for _ in range(NUM_CHAINS)]


@pytest.fixture(scope="module")
def fillers(chains: list[Chain]) -> Fillers:
    seen = Fillers()
    for problem, spans in chains:
        Reader(problem, text_of(spans), seen).read_chain()
    return seen


def test_the_plain_training_data_are_those_of_the_shipped_model() -> None:
    rng = random.Random("training 1")
    excluded = {problem.key for problem in held_out()}
    digest = hashlib.sha256()
    for _ in range(500):
        problem, spans = generate_chain(rng, excluded)
        written = [[span.text, span.trained] for span in spans]
        row = [problem.numbers, problem.target, problem.level, written]
        digest.update(json.dumps(row).encode())
    assert digest.hexdigest() == PLAIN_DIGEST


def test_a_style_changes_the_wording_and_not_the_problem() -> None:
    assert STYLES == {"plain": PLAIN, "wordy": WORDY}
    first = generate_chain(random.Random(5), set(), PLAIN)
    assert first == generate_chain(random.Random(5), set())
    problem, spans = generate_chain(random.Random(5), set(), WORDY)
    assert problem == first[0], "the wording is drawn after the problem"
    assert text_of(spans) != text_of(first[1])


def test_a_wordy_chain_is_as_documented() -> None:
    problem = Problem((3, 8, 3, 18), 21, 4)
    failed = (Step(18, "*", 3, 54), Step(54, "-", 8, 46), Step(46, "+", 3, 49))
    solved = (Step(8, "+", 3, 11), Step(18, "-", 11, 7), Step(7, "*", 3, 21))
    spans = list(write_chain(random.Random(4), problem, [failed, solved], WORDY))
    assert text_of(spans) == (
        "1:try 03*18=54;08 54 03\nso 54-08 is 46;46 03\nnext 03+46=49~21=28 no\n"
        "2:say 03+08 is 11 left 03 11 18\nso 18-11 is 07 left 03 07\n"
        "so 03*07=21~21=00 ok</think>03*(18-(03+08))"
    )
    assert [span.text for span in spans if not span.trained] == ["03*18", "54-08", "03+46"]


def test_every_chain_is_in_the_grammar_and_right(chains: list[Chain]) -> None:
    attempts = Counter[int]()
    for problem, spans in chains:
        num_attempts, solved, answer = Reader(problem, text_of(spans), Fillers()).read_chain()
        assert is_correct(problem, answer) is solved, (problem, text_of(spans))
        attempts[num_attempts] += 1
    assert sorted(attempts) == list(range(1, MAX_ATTEMPTS + 1))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("05=11", "05=12"),
        ("~02=09", "~02=08"),
        (" no", " ok"),
        ("try ", "then "),
        ("06+05", "06+06"),
        ("06-05", "05-06"),
    ],
)
def test_the_reader_of_these_tests_refuses_an_error(right: str, wrong: str) -> None:
    problem = Problem((6, 5), 2, 1)
    text = "1:try 06+05=11~02=09 no\n2:let 06-05 is 01~02=01 off</think>06-05"
    assert Reader(problem, text, Fillers()).read_chain() == (2, False, "06-05")
    assert right in text
    with pytest.raises((AssertionError, ValueError)):
        Reader(problem, text.replace(right, wrong, 1), Fillers()).read_chain()


def test_redundant_choices_are_uniform(fillers: Fillers) -> None:
    options: dict[str, tuple[object, ...]] = {
        "first_openers": WORDY.first_openers,
        "openers": WORDY.openers,
        "equals": WORDY.equals,
        "linkers": WORDY.linkers,
        "right": WORDY.right,
        "wrong": WORDY.wrong,
        "swapped": (False, True),
        "orders": tuple(permutations(range(3))),
    }
    for name, expected in options.items():
        counts = Counter(getattr(fillers, name))
        assert set(counts) == set(expected)
        p_value = chisquare([counts[option] for option in expected]).pvalue
        assert p_value > ERROR_PROBABILITY / len(options), (name, counts)


def test_there_are_more_redundant_choices_than_decisions(
    chains: list[Chain], fillers: Fillers
) -> None:
    num_words = sum(len(getattr(fillers, name)) for name in ("openers", "first_openers", "equals"))
    num_words += len(fillers.linkers) + len(fillers.right) + len(fillers.wrong)
    num_steps = len(fillers.equals)
    assert 2.5 * num_steps < num_words < 4 * num_steps


def test_only_the_operands_and_operators_of_failures_are_masked(chains: list[Chain]) -> None:
    for problem, spans in chains:
        seen = Fillers()
        Reader(problem, text_of(spans), seen).read_chain()
        masked = [span.text for span in spans if not span.trained]
        assert len(masked) == len(seen.wrong) * (len(problem.numbers) - 1)
        assert all(len(text) == 5 and text[2] in "+-*/" for text in masked)


def test_no_held_out_key_is_generated_for_training(chains: list[Chain]) -> None:
    keys = {problem.key for problem in held_out()}
    assert not keys & {problem.key for problem, _ in chains}
    rng = random.Random(11)
    unfiltered = {generate_chain(rng, set(), WORDY)[0].key for _ in range(NUM_CHAINS)}
    assert keys & unfiltered, "without the exclusion some would be generated"


def test_a_word_is_one_token_and_the_round_trip_is_exact(chains: list[Chain]) -> None:
    tokenizer = build_tokenizer(WORDY)
    for word in WORDY.words:
        assert len(tokenizer.encode(word)) == 1
    texts = [*(instruction(problem) for problem in held_out())]
    texts += [text_of(spans) for _, spans in chains[:1000]]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text
    for _, spans in chains[:300]:
        by_span = [token for span in spans for token in tokenizer.encode(span.text)]
        assert tokenizer.encode(text_of(spans)) == by_span
