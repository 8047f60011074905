"""The real runtime behind a proxy that injects faults, and with requests that would end it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    BestFirst,
    EagerConfig,
    EagerInit,
    FullParallel,
    Method,
    PromptResult,
    SamplingConfig,
    SearchConfig,
    TokenEndpoint,
    connect,
    set_prompt,
)
from eager_sgl.engine.limits import PATIENT, PROBE, UNREPEATED
from eager_sgl.engine.loop import run
from evals.tasks import find_task
from tests.conftest import API_KEY
from tests.fakes.endpoint import run_method, run_together
from tests.faults.proxy import fault_proxy

pytestmark = pytest.mark.integration

PROBABILITY = 0.2
PROMPTS = [sample.prompt for sample in find_task("countdown").load(6, None, 1)]
GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=120)
SIZE = 36  # of the bundled reasoner's vocabulary; its tokenizer knows fewer


def eager(monitor: Literal["gate", "chunk"], sampling: Any = GREEDY) -> Any:
    return EagerInit(
        EagerConfig(
            threshold=0.7, max_sequences=4, monitor=monitor, chunk_tokens=16, sampling=sampling
        )
    )


def grow(endpoint: TokenEndpoint, method: Method) -> list[PromptResult]:
    return run_together(method, endpoint, PROMPTS)


def trees_of(results: list[PromptResult]) -> Any:
    return [[(s.token_ids, s.parent) for s in result.sequences] for result in results]


def require_counts_hold(results: list[PromptResult], max_sequences: int) -> Any:
    for result in results:
        paths = [s.token_ids for s in result.sequences]
        prefixes = {path[:n] for path in paths for n in range(1, len(path) + 1)}
        assert 1 <= len(paths) <= max_sequences
        assert result.counts.unique == len(prefixes)
        assert result.counts.discarded >= 0
        assert result.counts.naive == sum(map(len, paths))


@pytest.fixture
def short_pauses() -> Iterator[None]:
    """More tries with shorter pauses, so that hardly a request fails at each of its tries."""
    pauses = PATIENT.pauses
    shorter = (*(pause / 10 for pause in pauses), *[0.1] * 6)
    for patience in (PATIENT, PROBE, UNREPEATED):
        object.__setattr__(patience, "pauses", shorter)
    yield
    for patience in (PATIENT, PROBE, UNREPEATED):
        object.__setattr__(patience, "pauses", pauses)


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("monitor", ["gate", "chunk"])
def test_greedy_trees_are_the_same_through_faults(
    endpoint: TokenEndpoint, server_url: str, monitor: Literal["gate", "chunk"]
) -> None:
    with fault_proxy(server_url, PROBABILITY, seed=3) as (url, proxy):
        through = grow(connect(url, api_key=API_KEY), eager(monitor))
    assert sum(proxy.injected.values()) > 2  # of a dozen on average, by which request comes when
    assert trees_of(through) == trees_of(grow(endpoint, eager(monitor)))
    require_counts_hold(through, 4)


@pytest.mark.usefixtures("short_pauses")
def test_everything_finishes_through_faults(server_url: str) -> None:
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=120)
    with fault_proxy(server_url, PROBABILITY, seed=4) as (url, proxy):
        endpoint = connect(url, api_key=API_KEY)
        require_counts_hold(grow(endpoint, eager("gate", sampling)), 4)
        require_counts_hold(grow(endpoint, eager("chunk", sampling)), 4)
        require_counts_hold(
            grow(endpoint, BestFirst(SearchConfig(max_sequences=4, sampling=sampling))), 4
        )
    assert len(proxy.injected) > 5


@pytest.mark.parametrize("monitor", ["gate", "chunk"])
def test_requests_that_take_too_long_are_continued(
    endpoint: TokenEndpoint, server_url: str, monitor: Literal["gate", "chunk"]
) -> None:
    """With half a second per request most are interrupted, and the trees are the same."""
    hurried = grow(connect(server_url, api_key=API_KEY, request_timeout=0.5), eager(monitor))
    patient = grow(endpoint, eager(monitor))
    assert trees_of(hurried) == trees_of(patient)
    require_counts_hold(hurried, 4)


@sgl.function  # type: ignore[untyped-decorator]
def gen(s: ProgramState, options: Any) -> Any:
    set_prompt(s, (1, 2, 3))
    s += sgl.gen("a", **options)


@pytest.mark.parametrize(
    "give",
    [
        lambda e: e.encode([120]),
        lambda e: e.encode([SIZE]),
        lambda e: e.encode([-1]),
        lambda e: e.encode([10**9]),
        lambda e: e.encode(b"abc"),
        lambda e: e.encode([True]),
        lambda e: e.encode("make \ud83d"),
        lambda e: e.decode([[10**9]]),
        lambda e: run(e.client.is_stop_token(SIZE)),
        lambda e: run_method(FullParallel(SamplingConfig(stop_token_ids=(10**9,)), 1), e, (1, 2)),
    ],
)
def test_tokens_that_would_end_the_server_are_refused(endpoint: TokenEndpoint, give: Any) -> None:
    with pytest.raises(ValueError, match=r"token|bytes|surrogate"):
        give(endpoint)
    assert run(endpoint.client.prefill((1, 2))).prompt_tokens == 2


@pytest.mark.parametrize(
    "options",
    [
        {"stop_token_ids": [10**9], "min_tokens": 2},
        {"top_k": 2**31},
        {"temperature": float("nan")},
        {"return_logprob": True, "logprob_start_len": -5},
        {"return_logprob": True, "top_logprobs_num": 100},
    ],
    ids=str,
)
def test_options_of_a_program_do_not_end_the_server(endpoint: TokenEndpoint, options: Any) -> None:
    assert isinstance(gen.run(options, backend=endpoint).error(), ValueError)
    assert run(endpoint.client.prefill((1, 2))).prompt_tokens == 2


@pytest.mark.parametrize(
    "method",
    [
        EagerInit(
            EagerConfig(threshold=0.7, top_k=100, monitor="chunk", max_sequences=2, sampling=GREEDY)
        ),
        EagerInit(
            EagerConfig(threshold=0.7, top_k=100, monitor="gate", max_sequences=2, sampling=GREEDY)
        ),
        BestFirst(SearchConfig(top_k=10**6, max_sequences=2, sampling=GREEDY)),
    ],
)
def test_k_above_the_vocabulary_is_all_of_it(endpoint: TokenEndpoint, method: Method) -> None:
    assert endpoint.profile.vocabulary_size == SIZE
    require_counts_hold(grow(endpoint, method), 2)


def _grow_one(endpoint: TokenEndpoint, answers: Any) -> Any:
    result = run_method(FullParallel(GREEDY, 2), endpoint, PROMPTS[0])
    answers.put([s.token_ids for s in result.sequences])


def test_a_forked_child_uses_the_endpoint_of_its_parent(endpoint: TokenEndpoint) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_grow_one, args=(endpoint, answers), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    ours = context.SimpleQueue()
    _grow_one(endpoint, ours)
    assert answers.get() == ours.get()


def test_a_server_that_answers_says_so(endpoint: TokenEndpoint) -> None:
    assert endpoint.is_answering()
