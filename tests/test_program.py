"""Programs on a scripted server: states, prompts, accounts, progress, failures."""

from __future__ import annotations

from typing import Any

import pytest
import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    EagerInit,
    Ledger,
    TokenCounts,
    continue_from,
    eager_generate,
    set_prompt,
)
from eager_sgl.errors import RequestRejectedError
from eager_sgl.generate.observers import progress_of
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.runs import config_of
from tests.fakes.scripted import ScriptedServer


def test_an_account_caps_and_records_the_sequences(scripted: ScriptedServer) -> None:
    ledger, endpoint = Ledger(10), endpoint_of(scripted)
    with ledger.reserve(3) as account:
        result = run_method(EagerInit(config_of(threshold=0.8)), endpoint, account=account)
        assert account.spent == len(result.sequences) == 3
    assert (ledger.spent, ledger.reserved, ledger.free) == (3, 0, 7)


def test_one_account_serves_several_calls(scripted: ScriptedServer) -> None:
    ledger = Ledger(8)
    endpoint = endpoint_of(scripted)
    method = EagerInit(config_of(threshold=0.8))
    with ledger.reserve(6) as account:
        first = run_method(method, endpoint, account=account)
        second = run_method(method, endpoint, account=account)
        assert (len(first.sequences), len(second.sequences)) == (4, 2)
        assert account.spent == 6
        with pytest.raises(ValueError, match="6 sequences are all spent"):
            run_method(method, endpoint, account=account)


def test_progress_is_reported_until_all_sequences_have_ended(scripted: ScriptedServer) -> None:
    seen: list[tuple[TokenCounts, int]] = []
    observers, _ = progress_of(lambda *progress: seen.append(progress))
    result = run_method(EagerInit(config_of()), endpoint_of(scripted), observers=observers)
    generated = [counts.generated for counts, _ in seen]
    assert generated == sorted(generated)
    assert generated[-1] == result.counts.generated
    assert seen[-1][1] == 0


def test_another_backend_is_refused() -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def branching(s: ProgramState) -> Any:
        eager_generate(s, EagerInit(config_of()))

    with pytest.raises(ValueError, match=r"eager_sgl\.connect"):
        branching.run(backend=sgl.lang.backend.base_backend.BaseBackend())


def test_a_program_branches_from_its_state_and_continues_from_a_sequence(
    scripted: ScriptedServer,
) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def solve(s: ProgramState) -> Any:
        s += "question"
        result = eager_generate(s, EagerInit(config_of()))
        continue_from(s, result.sequences[-1])
        s.sync()
        scripted.requests.clear()
        s += sgl.gen("answer", max_tokens=2)
        s["result"] = result

    state = solve.run(backend=endpoint_of(scripted))
    state.sync()
    chosen = state["result"].sequences[-1]
    (request,) = scripted.requests
    kept = chosen.token_ids[:-1] if chosen.finish_reason == "stop" else chosen.token_ids
    assert request["input_ids"] == [9, *kept]
    assert state.text() == "question" + " ".join(map(str, kept))


def test_a_prompt_survives_a_stop_string(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = scripted.answer

    def cut_at_a_string(path: str, body: Any = None) -> Any:
        done = answer(path, body)
        if path == "/generate" and body["sampling_params"].get("stop"):
            done["text"], done["meta_info"]["finish_reason"] = (
                "ab",
                {"type": "stop", "matched": "c"},
            )
        return done

    @sgl.function  # type: ignore[untyped-decorator]
    def talk(s: ProgramState) -> Any:
        set_prompt(s, (7, 8, 9))
        s += sgl.gen("first", stop="c", max_tokens=3)
        s += "X"
        s += sgl.gen("second", max_tokens=1)

    endpoint = endpoint_of(scripted)
    monkeypatch.setattr(scripted, "answer", cut_at_a_string)
    state = talk.run(backend=endpoint)
    assert state.text() == "abX"
    assert scripted.requests[-1]["input_ids"] == [7, 8, 9, *scripted.prompt]


def test_options_that_need_text_refuse_a_state_of_tokens(scripted: ScriptedServer) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def choose(s: ProgramState) -> Any:
        set_prompt(s, (7, 8, 9))
        s += sgl.select("which", choices=["a", "b"])

    state = choose.run(backend=endpoint_of(scripted))
    assert isinstance(state.error(), RequestRejectedError)
    assert "begin it with text" in str(state.error())


def test_a_prompt_cannot_follow_text(scripted: ScriptedServer) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def late(s: ProgramState) -> Any:
        s += "text"
        set_prompt(s, (7,))

    with pytest.raises(ValueError, match="'text'"):
        late.run(backend=endpoint_of(scripted))


@pytest.mark.parametrize("empty", ["", (), []])
def test_an_empty_prompt_is_refused(scripted: ScriptedServer, empty: Any) -> None:
    with pytest.raises(ValueError, match="empty"):
        run_method(EagerInit(config_of()), endpoint_of(scripted), empty)


def test_a_prompt_that_fills_the_context_is_refused(scripted: ScriptedServer) -> None:
    endpoint = endpoint_of(scripted)
    prompt = (9,) * endpoint.profile.context_length
    with pytest.raises(RequestRejectedError, match=f"{len(prompt)} tokens.*{len(prompt)}"):
        run_method(EagerInit(config_of()), endpoint, prompt)
