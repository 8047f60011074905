"""Users' functions are refused by name, before anything is sent where the signature shows it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eager_sgl import (
    BestFirst,
    Client,
    Consensus,
    EagerError,
    PromptResult,
    SamplingConfig,
    SearchConfig,
    Sequence,
    Solved,
    StageOne,
    TokenCounts,
    TokenLedger,
    VoteUncertainty,
)
from eager_sgl.callbacks import PlugIn
from eager_sgl.errors import PlugInError
from eager_sgl.search.frontier import NO_RESHAPING, Candidates
from eager_sgl.search.priorities import PRIORITIES, Best, EarlyPeaks, usable_priority
from programs.shared_budget import answer_together
from programs.vote import tried, vote
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution

SAMPLING = SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=4)
SEQUENCES = (Sequence((1, 2), (), "stop", text="a"), Sequence((1, 3), (), "stop", text="b"))


class UserPriority:
    """A priority with the given values."""

    reshaping = NO_RESHAPING

    def __init__(self, say: Any) -> None:
        self._say = say

    def __call__(self, candidates: Candidates) -> Any:
        return self._say(candidates)


class WithoutReshaping:
    def __call__(self, candidates: Candidates) -> Any:
        return candidates.entropies


class OfTwo:
    reshaping = NO_RESHAPING

    def __call__(self, candidates: Candidates, more: Any) -> Any:
        return candidates.entropies


class Instance:
    """A class without arguments, given instead of an object."""

    reshaping = NO_RESHAPING

    def __call__(self, candidates: Candidates) -> Any:
        return candidates.entropies.tolist()


NO_TREE: Any = None
GOOD = UserPriority(lambda c: c.positions)
WRONG_PRIORITIES = {
    "one number": (
        UserPriority(lambda c: 1.0),
        "it must return an array [9] of numbers, this is float64 ",
    ),
    "a column": (UserPriority(lambda c: c.entropies[:, None]), "this is float64 [9, 1]"),
    "too few": (UserPriority(lambda c: c.entropies[1:]), "this is float64 [8]"),
    "ragged": (
        UserPriority(lambda c: [[1.0], [1.0, 2.0]]),
        "it must return an array [9] of numbers",
    ),
    "nothing": (UserPriority(lambda c: None), "returned None (NoneType); it must return an array"),
    "texts": (UserPriority(lambda c: ["1"] * len(c)), "this is <U1 [9]"),
    "NaN": (UserPriority(lambda c: c.entropies * math.nan), "returned NaN for number 0 of 9"),
    "a later NaN": (
        UserPriority(lambda c: np.where(np.arange(len(c)) == 4, math.nan, 1.0)),
        "returned NaN for number 4 of 9",
    ),
    "raises": (
        UserPriority(lambda c: c.entropie),
        "raised AttributeError: 'Candidates' object has no",
    ),
    "fails on none": (
        UserPriority(lambda c: c.entropies / c.entropies.max()),
        "raised ValueError: zero",
    ),
    "no reshaping": (WithoutReshaping(), "has no reshaping"),
    "a plain function": (lambda candidates: candidates.entropies, "has no reshaping"),
    "two arguments": (OfTwo(), "more: 'Any') -> 'Any'; it is called with (candidates)"),
    "no function": (3, "is a int, not a function"),
    "a class": (OfTwo, "takes (candidates: "),
    "a class with arguments": (UserPriority, "takes (say: "),
}


@pytest.mark.parametrize(("priority", "message"), WRONG_PRIORITIES.values(), ids=WRONG_PRIORITIES)
def test_a_wrong_priority_is_refused_by_name(priority: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^priority '") as caught:
        BestFirst(SearchConfig(), priority=priority)
    named = priority if hasattr(priority, "__name__") else type(priority)
    assert f"{named.__module__}:{named.__qualname__}" in str(caught.value)
    assert message in str(caught.value)
    assert isinstance(caught.value, EagerError)


@pytest.mark.parametrize(
    "priority",
    [GOOD, Instance, Instance(), Best(lambda c: c.entropies), EarlyPeaks(scale=3), EarlyPeaks],
)
def test_a_valid_priority_searches(priority: Any) -> None:
    endpoint = endpoint_of(ScriptedServer(mixed_distribution(1)))
    config = SearchConfig(max_sequences=6, top_k=VOCABULARY, reasoning_end=None, sampling=SAMPLING)
    method = BestFirst(config, priority=priority)
    generated = run_method(method, endpoint, (9,))
    assert len(generated.sequences) > 1


def test_a_built_in_priority_is_not_wrapped() -> None:
    for name, priority in PRIORITIES.items():
        assert usable_priority(name) is priority


def test_errors_have_the_name_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        "from eager_sgl.search.priorities import Best\nwrong = Best(lambda candidates: None / 2)\n"
    )
    (tmp_path / "own_priorities.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="priority 'own_priorities:wrong' raised TypeError"):
        BestFirst(SearchConfig(), priority="own_priorities:wrong")
    with pytest.raises(ValueError, match="unknown priority 'own_priorities:absent'"):
        BestFirst(SearchConfig(), priority="own_priorities:absent")


def run(server: ScriptedServer | None = None, **arguments: Any) -> PromptResult:
    server = server or ScriptedServer(mixed_distribution(1))
    endpoint = endpoint_of(server)
    server.requests.clear()  # those of connecting
    config: dict[str, Any] = {
        "max_sequences": 8,
        "top_k": VOCABULARY,
        "reasoning_end": None,
        "sampling": SAMPLING,
    }
    method = BestFirst(SearchConfig(**config), **arguments)
    result: PromptResult = run_method(method, endpoint, (9,))
    return result


def later(first: Any, then: Any) -> Any:
    """Calls a function at first, and returns another value from the third call on."""
    calls = []

    def say(*arguments: Any) -> Any:
        calls.append(arguments)
        return first(*arguments) if len(calls) < 3 else then

    return say


def test_a_priority_that_fails_later_is_named() -> None:
    for then, message in ((math.nan, "must return an array"), ([math.nan], "array|NaN")):
        priority = UserPriority(later(lambda c: c.entropies, then))
        with pytest.raises(
            ValueError, match=f"priority 'tests.test_callbacks:UserPriority' .*({message})"
        ):
            run(priority=priority)


RULES = {
    "one argument": (lambda tree: False, "takes (tree); it is called with (tree, sequences)"),
    "three arguments": (lambda a, b, c: False, "is called with (tree, sequences)"),
    "keywords": (lambda *, tree, sequences: False, "too many positional arguments"),
    "no function": ("enough", "is a str, not a function"),
}


@pytest.mark.parametrize(("rule", "message"), RULES.values(), ids=RULES)
def test_a_rule_of_another_signature_is_refused_before_anything_is_sent(
    rule: Any, message: str
) -> None:
    server = ScriptedServer(mixed_distribution(1))
    with pytest.raises(ValueError, match="stop '") as caught:
        run(server, stop=rule)
    assert message in str(caught.value)
    assert server.requests == []
    with pytest.raises(ValueError, match="utility '") as caught:
        TokenLedger(10).join(rule)
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [1, 0.97, "no", [], math.nan, np.array([True]), object()])
def test_a_rule_whose_value_is_no_truth_value_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match="stop '.*' returned .* it must return True or False"):
        run(stop=later(lambda tree, sequences: False, value))


@pytest.mark.parametrize("value", [True, np.True_])
def test_a_truth_value_of_numpy_is_allowed(value: Any) -> None:
    assert len(run(stop=lambda tree, sequences: value).sequences) == 1


@pytest.mark.parametrize("value", [math.nan, np.nan, None, "1", True, [1.0], 1j, np.array([1.0])])
def test_a_utility_that_is_no_number_is_named(value: Any) -> None:
    ledger = TokenLedger(100)
    bidder = ledger.join(later(lambda tree, sequences: 1.0, value))
    with pytest.raises(ValueError, match="utility '.*' returned .* it must return a number"):
        run(bidder=bidder)


@pytest.mark.parametrize("value", [3, -math.inf, np.float32(1.5), np.int64(2)])
def test_any_other_number_is_a_utility(value: Any) -> None:
    assert run(bidder=TokenLedger(100).join(lambda tree, sequences: value)).sequences


CLASSES = {
    "too few": (lambda sequences: ["a"], "a list of 2 classes, one per sequence"),
    "nothing": (lambda sequences: None, "returned None (NoneType)"),
    "a generator": (lambda sequences: (1 for _ in sequences), "a list of 2 classes"),
    "lists": (lambda sequences: [[1], [2]], "it must return a hashable value"),
}


@pytest.mark.parametrize(("classes", "message"), CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("kind", [Consensus, VoteUncertainty])
def test_wrong_classes_are_named(kind: Any, classes: Any, message: str) -> None:
    with pytest.raises(ValueError, match="classes '") as caught:
        kind(classes)(NO_TREE, SEQUENCES)
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", [Consensus, VoteUncertainty, Solved])
def test_a_function_of_another_signature_is_refused_at_once(kind: Any) -> None:
    with pytest.raises(ValueError, match="it is called with \\(sequences?\\)"):
        kind(lambda sequences, more: [])


@pytest.mark.parametrize("value", [None, 0.97, 1, "yes", math.nan])
def test_a_verifier_whose_value_is_no_truth_value_is_named(value: Any) -> None:
    result = PromptResult((9,), SEQUENCES, TokenCounts(), max_sequences=2)
    uses: tuple[Callable[[Any], object], ...] = (
        lambda verifier: StageOne.of(result, verifier),
        lambda verifier: Solved(verifier)(NO_TREE, SEQUENCES),
    )
    for use in uses:
        with pytest.raises(ValueError, match="verifier '.*' returned .*True or False"):
            use(lambda sequence: value)
    of_two: Any = lambda sequence, more: True  # noqa: E731
    with pytest.raises(ValueError, match="verifier '.*' takes"):
        StageOne.of(result, of_two)


@pytest.mark.parametrize(
    ("extract", "message"),
    [
        (lambda: None, "it is called with \\(text\\)"),
        (lambda text: [text], "must return a hashable value"),
        (lambda text: text.index("####"), "raised ValueError"),
        (None, "is a NoneType, not a function"),
    ],
)
def test_an_extractor_is_tried_before_anything_is_sent(extract: Any, message: str) -> None:
    server = ScriptedServer(mixed_distribution(1))
    endpoint = endpoint_of(server)
    server.requests.clear()
    with pytest.raises(ValueError, match=f"extract '.*' .*{message}"):
        vote.run((9,), BestFirst(SearchConfig()), extract, backend=endpoint)
    with pytest.raises(ValueError, match=f"extract '.*' .*{message}"):
        answer_together([(9,)], BestFirst(SearchConfig()), extract, 9, Client("http://nobody"))
    assert server.requests == []
    assert tried(len)("four") == 4


def test_functions_without_a_signature_are_called() -> None:
    assert PlugIn("extract", max, ("text",)).hashable("abc") == "c"


def test_a_coroutine_is_refused_and_closed() -> None:
    """Python would warn of it, beside the error."""
    made: list[Coroutine[object, object, bool]] = []

    async def later() -> bool:
        return True

    def verifier(sequence: object) -> object:
        made.append(later())
        return made[-1]

    with pytest.raises(PlugInError, match="coroutine"):
        PlugIn("verifier", verifier, ("sequence",)).boolean(None)
    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED
