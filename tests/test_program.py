"""The programs on a scripted server: limits, sharing, counts, failures."""

import copy
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import sglang as sgl

from eager_sgl import (
    EagerConfig,
    EagerInit,
    FullParallel,
    Ledger,
    SamplingConfig,
    connect,
    continue_from,
    eager_generate,
    generate,
    resume,
    set_prompt,
)
from eager_sgl.core import BranchPoint, Generation
from eager_sgl.engine.endpoint import TokenEndpoint
from eager_sgl.engine.protocol import GATE_REPORT
from eager_sgl.errors import RequestRejectedError, ServerUnreachableError, ServerUnsuitableError
from eager_sgl.schedule import OnlineSchedule
from eager_sgl.tree import TokenTree
from tests.fakes.scripted import CLOSE, EOS, VOCABULARY, ScriptedServer, mixed_distribution

MODELS = range(12)


def config_of(**arguments):
    sampling = SamplingConfig(temperature=0.8, top_p=0.8, max_new_tokens=9)
    defaults = {"threshold": 1.2, "top_k": VOCABULARY, "max_sequences": 4, "chunk_tokens": 4}
    return EagerConfig(**(defaults | {"sampling": sampling} | arguments))


def run(server, **arguments):
    endpoint = TokenEndpoint(server)
    server.restart(seed=0)
    return generate.run(
        prompt=(9,), method=EagerInit(config_of(**arguments)), backend=endpoint
    ).ret_value


@pytest.mark.parametrize("model", MODELS)
def test_no_limit_is_exceeded(model):
    result = run(ScriptedServer(mixed_distribution(model)), threshold=0.8)
    assert 1 <= len(result.sequences) <= 4
    assert result.saturated == (len(result.sequences) == 4)
    for sequence in result.sequences:
        assert 1 <= len(sequence.token_ids) <= 9
        stopped = sequence.token_ids[-1] == EOS
        assert sequence.finish_reason == ("stop" if stopped else "length")
        assert EOS not in sequence.token_ids[:-1]


@pytest.mark.parametrize("model", MODELS)
def test_a_request_prefills_one_token_and_the_prompt_is_prefilled_once(model):
    server = ScriptedServer(mixed_distribution(model), prompt=(9, 9, 9))
    endpoint = TokenEndpoint(server)
    server.restart(seed=0)
    result = generate.run(
        prompt=(9, 9, 9), method=EagerInit(config_of()), backend=endpoint
    ).ret_value
    assert result.counts.prefilled == len(result.prompt_ids) + result.counts.requests - 1


@pytest.mark.parametrize("model", MODELS)
def test_counts_are_the_servers_numbers_and_the_trees(model):
    server = ScriptedServer(mixed_distribution(model))
    counts = (result := run(server)).counts
    own = [r for r in server.requests if "logit_bias" not in r["sampling_params"]]
    assert counts.requests == len(own)
    assert counts.generated == sum(len(r["output_ids"]) for r in own)
    assert counts.prompt == sum(len(r["input_ids"]) for r in own)
    assert counts.cached == sum(r["cached_tokens"] for r in own)
    paths = [s.token_ids for s in result.sequences]
    assert counts.unique == len({p[:n] for p in paths for n in range(1, len(p) + 1)})
    assert counts.naive == sum(map(len, paths))
    assert counts.discarded >= 0


@pytest.mark.parametrize("model", MODELS)
def test_a_child_leaves_its_parent_at_the_branch(model):
    result = run(ScriptedServer(mixed_distribution(model)), threshold=0.8)
    for child in result.sequences[1:]:
        parent, at = result.sequences[child.parent], child.branch.position
        assert child.token_ids[:at] == parent.token_ids[:at]
        assert (parent.token_ids[at], child.token_ids[at]) == child.branch.token_ids
        assert child.branch.entropy >= 0.8


def test_nothing_is_tokenised_when_ids_are_given_and_no_logprobs_asked_after_saturation(scripted):
    result = run(scripted, max_sequences=1, chunk_tokens=2)
    assert len(result.sequences) == 1
    assert result.counts.requests == 1
    assert not any("return_logprob" in request for request in scripted.requests)


def test_entropies_are_the_same_from_a_server_with_raw_logprobs(scripted):
    tempered = run(scripted)
    scripted.logprobs_are_raw = True
    raw = run(scripted)
    assert [p.position for p in raw.branch_points] == [p.position for p in tempered.branch_points]
    assert [p.entropy for p in raw.branch_points] == pytest.approx(
        [p.entropy for p in tempered.branch_points], abs=1e-5
    )


def test_the_account_caps_and_learns_what_was_used(scripted):
    ledger, endpoint = Ledger(10), TokenEndpoint(scripted)
    with ledger.reserve(3) as account:
        state = generate.run(
            prompt=(9,),
            method=EagerInit(config_of(threshold=0.8)),
            account=account,
            backend=endpoint,
        )
        assert account.spent == len(state.ret_value.sequences) == 3
    assert (ledger.spent, ledger.reserved, ledger.free) == (3, 0, 7)


def test_progress_is_reported_until_nothing_is_alive(scripted):
    seen, endpoint = [], TokenEndpoint(scripted)
    state = generate.run(
        prompt=(9,),
        method=EagerInit(config_of()),
        on_progress=lambda *wave: seen.append(wave),
        backend=endpoint,
    )
    generated = [counts.generated for counts, _ in seen]
    assert generated == sorted(generated)
    assert generated[-1] == state.ret_value.counts.generated
    assert seen[-1][1] == 0


def test_full_parallel_shares_the_prompt_and_nothing_else(scripted):
    endpoint = TokenEndpoint(scripted)
    scripted.restart(seed=0)
    sampling = SamplingConfig(temperature=0.8, top_p=0.8, max_new_tokens=9)
    result = generate.run(prompt=(9,), method=FullParallel(sampling, 6), backend=endpoint).ret_value
    counts = result.counts
    assert len({s.token_ids for s in result.sequences}) > 1
    assert counts.generated == counts.unique == counts.naive
    assert (counts.requests, counts.prefilled) == (7, 1 + 6)
    assert result.branch_points == ()


def test_full_parallel_needs_a_sequence(scripted):
    with pytest.raises(ValueError, match="max_sequences is 0"):
        generate.run(
            prompt=(9,), method=FullParallel(SamplingConfig(), 0), backend=TokenEndpoint(scripted)
        )


def test_a_prompt_that_fills_the_context_is_refused(scripted):
    endpoint = TokenEndpoint(scripted)
    prompt = (9,) * endpoint.profile.context_length
    with pytest.raises(RequestRejectedError, match=f"{len(prompt)} tokens.*{len(prompt)}"):
        generate.run(prompt=prompt, method=EagerInit(config_of()), backend=endpoint)


@pytest.mark.parametrize("chunk_tokens", [1, 2, 4])
def test_sequences_end_where_the_context_does(chunk_tokens):
    server = ScriptedServer(mixed_distribution(42), prompt=(9,) * 30)
    endpoint = TokenEndpoint(server)
    server.restart(seed=0)
    server.context_length = 30 + 4 + 6
    endpoint.profile = replace(endpoint.profile, context_length=30 + 4)
    for method in (
        EagerInit(config_of(chunk_tokens=chunk_tokens)),
        FullParallel(config_of().sampling, 3),
    ):
        result = generate.run(prompt=server.prompt, method=method, backend=endpoint).ret_value
        lengths = [len(s.token_ids) for s in result.sequences if s.finish_reason == "length"]
        assert set(lengths) == {4}


class Replicas(ScriptedServer):
    """Two servers that take turns, each with a cache of its own."""

    def __init__(self):
        super().__init__(mixed_distribution(42))
        self._other = ScriptedServer(mixed_distribution(42))
        self._turn = 0

    def answer(self, path, body=None):
        if path != "/generate":
            return super().answer(path, body)
        self._turn += 1
        replica = super() if self._turn % 2 else self._other
        return replica.answer(path, body)


def test_replicas_that_take_turns_are_refused():
    with pytest.raises(ServerUnsuitableError, match="the same replica"):
        TokenEndpoint(Replicas())


def test_a_server_without_a_radix_cache_is_refused():
    with pytest.raises(ServerUnsuitableError, match="--disable-radix-cache"):
        TokenEndpoint(ScriptedServer(mixed_distribution(42), radix_cache=False))


def test_a_failure_reaches_the_caller_and_stops_the_others(scripted, recwarn):
    endpoint, answer = TokenEndpoint(scripted), scripted.post
    before, blocked = set(threading.enumerate()), threading.Barrier(4)
    released = threading.Event()

    def fail_for_one_of_four(path, build, progress=None):
        if path == "/generate" and build()["sampling_params"]["max_new_tokens"] > 0:
            if blocked.wait() == 0:
                raise ServerUnreachableError("gone")
            released.wait(10)
        return answer(path, build, progress)

    scripted.post = fail_for_one_of_four
    scripted.notify = lambda path, body: (scripted.notified.append(body), released.set())
    with pytest.raises(ServerUnreachableError, match="gone"):
        generate.run(prompt=(9,), method=FullParallel(config_of().sampling, 4), backend=endpoint)
    assert 1 <= len(scripted.notified) <= 4
    for thread in set(threading.enumerate()) - before:  # the scripted server's own
        thread.join(10)
    assert set(threading.enumerate()) == before
    assert not recwarn.list


def test_another_backend_is_refused():
    with pytest.raises(ValueError, match=r"eager_sgl\.connect"):
        generate.run(
            prompt="x",
            method=EagerInit(config_of()),
            backend=sgl.lang.backend.base_backend.BaseBackend(),
        )


def test_a_program_branches_from_its_state_and_goes_on_from_what_it_chose(scripted):
    @sgl.function
    def solve(s):
        s += "question"
        result = eager_generate(s, EagerInit(config_of()))
        continue_from(s, result.sequences[-1])
        s.sync()
        scripted.requests.clear()
        s += sgl.gen("answer", max_tokens=2)
        s["result"] = result

    state = solve.run(backend=TokenEndpoint(scripted))
    state.sync()
    chosen = state["result"].sequences[-1]
    (request,) = scripted.requests
    kept = chosen.token_ids[:-1] if chosen.finish_reason == "stop" else chosen.token_ids
    assert request["input_ids"] == [9, *kept]
    assert state.text() == f"question{chosen.text}"


def test_one_account_serves_several_calls(scripted):
    ledger = Ledger(8)
    endpoint = TokenEndpoint(scripted)
    method = EagerInit(config_of(threshold=0.8))
    arguments = {"prompt": (9,), "method": method, "backend": endpoint}
    with ledger.reserve(6) as account:
        first = generate.run(**arguments, account=account).ret_value
        second = generate.run(**arguments, account=account).ret_value
        assert (len(first.sequences), len(second.sequences)) == (4, 2)
        assert account.spent == 6
        with pytest.raises(ValueError, match="6 sequences are all spent"):
            generate.run(**arguments, account=account)


def test_a_prompt_survives_a_stop_string(scripted):
    answer = scripted.answer

    def cut_at_a_string(path, body=None):
        done = answer(path, body)
        if path == "/generate" and body["sampling_params"].get("stop"):
            done["text"], done["meta_info"]["finish_reason"] = (
                "ab",
                {"type": "stop", "matched": "c"},
            )
        return done

    @sgl.function
    def talk(s):
        set_prompt(s, (7, 8, 9))
        s += sgl.gen("first", stop="c", max_tokens=3)
        s += "X"
        s += sgl.gen("second", max_tokens=1)

    endpoint = TokenEndpoint(scripted)
    scripted.answer = cut_at_a_string
    state = talk.run(backend=endpoint)
    assert state.text() == "abX"
    assert scripted.requests[-1]["input_ids"] == [7, 8, 9, *scripted.prompt]


def test_what_needs_text_refuses_a_state_of_tokens(scripted):
    @sgl.function
    def choose(s):
        set_prompt(s, (7, 8, 9))
        s += sgl.select("which", choices=["a", "b"])

    state = choose.run(backend=TokenEndpoint(scripted))
    assert isinstance(state.error(), RequestRejectedError)
    assert "begin it with text" in str(state.error())


def test_a_prompt_cannot_follow_text(scripted):
    @sgl.function
    def late(s):
        s += "text"
        set_prompt(s, (7,))

    with pytest.raises(ValueError, match="'text'"):
        late.run(backend=TokenEndpoint(scripted))


@pytest.mark.parametrize("empty", ["", (), []])
def test_an_empty_prompt_is_refused(scripted, empty):
    with pytest.raises(ValueError, match="empty"):
        generate.run(prompt=empty, method=EagerInit(config_of()), backend=TokenEndpoint(scripted))


def test_another_server_is_not_taken_for_sglang(scripted):
    scripted.answer = lambda path, body=None: {"a": 1}
    with pytest.raises(ServerUnsuitableError, match="not as an SGLang server"):
        TokenEndpoint(scripted)


def test_connecting_needs_a_url():
    with pytest.raises(ValueError, match="http://"):
        connect("localhost:30000")


def refused_run(scripted, **arguments):
    endpoint = TokenEndpoint(scripted)
    scripted.restart(seed=0)
    config = config_of(threshold=0.8, max_sequences=2, deferred_threshold=0.4, **arguments)
    return endpoint, generate.run(prompt=(9,), method=EagerInit(config), backend=endpoint).ret_value


def test_refused_branches_lie_on_the_sequences_and_their_token_is_untried(scripted):
    _, result = refused_run(scripted)
    assert result.deferred
    entropies = [deferred.point.entropy for deferred in result.deferred]
    assert entropies == sorted(entropies, reverse=True)
    for deferred in result.deferred:
        taken = result.sequences[deferred.sequence].token_ids[deferred.point.position]
        assert taken == deferred.point.sampled
        assert deferred.point.token_ids[deferred.choice] != taken
    assert entropies[-1] >= 0.4


def test_refused_branches_are_sought_to_the_end_of_every_sequence(scripted):
    """Where nothing is kept, a prompt that has M sequences is no longer monitored."""
    _, keeping = refused_run(scripted, chunk_tokens=1, reasoning_end=None)
    known = [h == h for s in keeping.sequences for h in s.entropies]
    plain = run(scripted, threshold=0.8, max_sequences=2, chunk_tokens=1, reasoning_end=None)
    assert keeping.saturated
    assert all(known)
    assert not all(h == h for s in plain.sequences for h in s.entropies)


def test_branches_below_the_threshold_are_kept_but_never_taken(scripted):
    endpoint = TokenEndpoint(scripted)
    greedy = SamplingConfig(temperature=0, max_new_tokens=9)
    plain = config_of(threshold=1.3, max_sequences=16, sampling=greedy)
    keeping = replace(plain, deferred_threshold=0.3)
    trees = [
        generate.run(prompt=(9,), method=EagerInit(config), backend=endpoint).ret_value
        for config in (plain, keeping)
    ]
    assert [s.token_ids for s in trees[0].sequences] == [s.token_ids for s in trees[1].sequences]
    assert not trees[1].saturated
    assert trees[1].deferred
    assert all(0.3 <= deferred.point.entropy < 1.3 for deferred in trees[1].deferred)
    state = resume.run(
        prompt=(9,),
        result=trees[1],
        num_sequences=2,
        sampling=greedy,
        threshold=trees[1].deferred[0].point.entropy,
        backend=endpoint,
    )
    assert len(state.ret_value.sequences) == 1


def test_resuming_opens_the_best_refused_branches_on_cached_prefixes(scripted):
    endpoint, result = refused_run(scripted)
    sampling = config_of().sampling
    scripted.requests.clear()
    state = resume.run(
        prompt=(9,), result=result, num_sequences=3, sampling=sampling, backend=endpoint
    )
    extra = state.ret_value
    assert len(extra.sequences) == min(3, len(result.deferred))
    for sequence, deferred in zip(extra.sequences, result.deferred, strict=False):
        before = result.sequences[sequence.parent].token_ids[: sequence.branch.position]
        assert sequence.token_ids[: len(before)] == before
        assert sequence.token_ids[len(before)] == deferred.point.token_ids[deferred.choice]
        assert len(sequence.token_ids) <= 9
    own = [r for r in scripted.requests if "logit_bias" not in r["sampling_params"]]
    assert extra.counts.prefilled == len(own) == extra.counts.requests
    assert extra.counts.discarded == 0


def test_nothing_refused_leaves_nothing_to_resume(scripted):
    endpoint = TokenEndpoint(scripted)
    config = config_of(threshold=1.6, max_sequences=4)
    result = generate.run(prompt=(9,), method=EagerInit(config), backend=endpoint).ret_value
    assert result.deferred == ()
    state = resume.run(
        prompt=(9,), result=result, num_sequences=3, sampling=config.sampling, backend=endpoint
    )
    assert state.ret_value.sequences == ()


def gated(model=42):
    return ScriptedServer(mixed_distribution(model), allows_gate=True)


@pytest.mark.parametrize("model", MODELS)
def test_the_gate_asks_for_no_logprobs_and_once_for_every_segment(model):
    server = gated(model)
    result = run(server, monitor="auto")
    assert result.monitor == "gate"
    own = [r for r in server.requests if "logit_bias" not in r["sampling_params"]]
    assert not any(request.get("return_logprob") for request in own)
    assert result.counts.generated == sum(len(r["output_ids"]) for r in own)
    assert len(own) == result.counts.requests
    assert len({tuple(request["input_ids"]) for request in own}) == len(own)


@pytest.mark.parametrize("model", MODELS)
def test_the_gate_watches_nothing_behind_the_end_of_the_reasoning(model):
    server = gated(model)
    result = run(server, threshold=0.8, max_sequences=8, monitor="gate")
    for sequence in result.sequences:
        if sequence.branch is not None:
            assert CLOSE not in sequence.token_ids[: sequence.branch.position]
        if CLOSE in sequence.token_ids:
            answer = sequence.entropies[sequence.token_ids.index(CLOSE) + 1 :]
            assert np.isnan(answer).all()
    for request in server.requests:
        if "custom_params" in request["sampling_params"]:
            assert CLOSE not in request["input_ids"][1:]


def facts(point):
    return point.position, point.token_ids, point.sampled, pytest.approx(point.entropy, abs=1e-5)


@pytest.mark.parametrize("deferred_threshold", [None, 0.4])
@pytest.mark.parametrize("model", MODELS)
def test_gate_and_chunks_see_the_same_steps(model, deferred_threshold):
    """Greedy, so that both draw the same tokens."""
    gate, chunk = (
        run(
            gated(model),
            monitor=monitor,
            max_sequences=3,
            deferred_threshold=deferred_threshold,
            sampling=SamplingConfig(temperature=0.0, max_new_tokens=9),
        )
        for monitor in ("gate", "chunk")
    )
    for ours, theirs in zip(gate.sequences, chunk.sequences, strict=True):
        assert (ours.token_ids, ours.parent) == (theirs.token_ids, theirs.parent)
        for entropy, expected in zip(ours.entropies, theirs.entropies, strict=True):
            assert math.isnan(entropy) or entropy == pytest.approx(expected, abs=1e-5)
    for ours, theirs in zip(gate.branch_points, chunk.branch_points, strict=True):
        assert facts(theirs) == facts(ours)
    ours, theirs = (
        sorted(r.deferred, key=lambda r: (r.sequence, r.point.position)) for r in (gate, chunk)
    )
    assert [(r.sequence, facts(r.point)) for r in theirs] == [
        (r.sequence, facts(r.point)) for r in ours
    ]
    assert deferred_threshold or not ours


def test_the_gate_is_shut_where_nothing_may_branch_any_more():
    server = gated()
    assert len(run(server, monitor="gate", max_sequences=1).sequences) == 1
    assert not any("custom_logit_processor" in request for request in server.requests)


def test_a_server_without_a_gate_is_refused_where_one_is_asked_for(scripted):
    with pytest.raises(ServerUnsuitableError, match="--enable-custom-logit-processor"):
        run(scripted, monitor="gate")
    assert run(scripted, monitor="auto").monitor == "chunk"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"speculative_algorithm": "EAGLE"}, "speculative"),
        ({"incremental_streaming_output": True}, "incremental"),
    ],
)
def test_what_the_server_says_of_itself_may_rule_the_gate_out(said, reason):
    server = gated()
    answer = server.answer
    server.answer = lambda path, body=None: answer(path, body) | ({} if body else said)
    with pytest.raises(ServerUnsuitableError, match=reason):
        run(server, monitor="gate")


def test_a_router_rules_the_gate_out():
    server = gated()
    server.has_router = True
    with pytest.raises(ServerUnsuitableError, match="aborts"):
        run(server, monitor="gate")


def silent(answer):
    answer["meta_info"].pop(GATE_REPORT, None)


def off_by_one(answer):
    for report in answer["meta_info"].get(GATE_REPORT, ()):
        report[0] += 1


def tells_at_the_end(answer):
    if answer["meta_info"]["finish_reason"] is None:
        silent(answer)


@pytest.mark.parametrize("fault", [silent, off_by_one, tells_at_the_end])
def test_a_gate_that_does_not_tell_what_it_should_is_none(fault):
    server = gated()
    post = server.post

    def faulty(path, build, decode, *options, **more):
        def spoil(answer):
            answer = copy.deepcopy(answer)
            if path == "/generate":
                fault(answer)
            return decode(answer)

        return post(path, build, spoil, *options, **more)

    server.post = faulty
    with pytest.raises(ServerUnsuitableError, match="do not tell"):
        run(server, monitor="gate")


@pytest.mark.parametrize("model", MODELS)
def test_a_request_is_told_of_no_more_steps_than_there_are_slots(model):
    server = gated(model)
    run(server, monitor="gate", max_sequences=3)
    max_reports = [
        request["sampling_params"]["custom_params"]["eager_max_reports"]
        for request in server.requests
        if "custom_params" in request["sampling_params"]
    ]
    assert max_reports[0] == 2
    assert all(1 <= number <= 2 for number in max_reports)


def test_a_slot_that_was_taken_ahead_may_still_be_taken_back():
    """The root has run ahead and taken the last slot; its first child may claim it before that."""

    def point(position):
        return BranchPoint(position, 1.0, (2, 3), (0.5, 0.5), (-0.7, -0.7), sampled=2)

    tree = TokenTree((9,), max_new_tokens=20)
    root = tree.open_root()
    tree.append(root, Generation((2,) * 12, "length", 1, 0), 12)
    root.branch_points += [point(0), point(10)]
    decision = OnlineSchedule(3, 1000, 0.5).replay(tree)
    assert len(decision.leaves) == 3
    assert [(m.segment.end, m.max_reports) for m in decision.monitored] == [(1, 1)]


def test_chunks_grow_where_nothing_branches_and_are_short_again_after_a_branch():
    server = ScriptedServer(lambda path: (0.0001, 0.0001, 0.9996, 0.0001, 0.0001))
    sampling = SamplingConfig(max_new_tokens=60, temperature=0)
    run(server, sampling=sampling, threshold=1.6, chunk_tokens=2)
    sizes = [r["sampling_params"]["max_new_tokens"] for r in server.requests]
    assert sizes == [2, 2, 4, 8, 16, 16, 12]
