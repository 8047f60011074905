"""SGLang's JSON formats, built and parsed."""

import base64

import numpy as np
import pytest

from eager_sgl import SamplingConfig, errors
from eager_sgl.engine.protocol import Json, generate_payload, parse_generation
from eager_sgl.engine.requests import Request, RequestHandle, Submission
from eager_sgl.engine.text_answers import parse_text_answer
from eager_sgl.plugin.vocabulary import BELOW_FLOOR

META: Json = {
    "prompt_tokens": 5,
    "cached_tokens": 4,
    "finish_reason": {"type": "length", "length": 2},
}


def answer(**meta: object) -> Json:
    return {"output_ids": [3, 4], "text": "ab", "meta_info": META | meta}


def test_logprobs_are_requested_only_with_a_top_k() -> None:
    plain = generate_payload([1, 2], {"temperature": 0.6}, request_id="r")
    assert plain == {"rid": "r", "input_ids": [1, 2], "sampling_params": {"temperature": 0.6}}
    monitored = generate_payload([1, 2], {}, request_id="r", top_logprobs=20)
    assert monitored["return_logprob"] is True
    assert monitored["top_logprobs_num"] == 20


def test_flat_arrays_become_rows_of_alternatives() -> None:
    values = np.array([[-0.1, -2.5], [-0.7, -0.8]], np.float32)
    ids = np.array([[3, 9], [4, 8]], np.int32)
    parsed = parse_generation(
        answer(
            output_token_logprobs=[[-0.1, 3, None], [-0.7, 4, None]],
            output_top_logprobs_val_flat_b64=base64.b64encode(values.tobytes()).decode(),
            output_top_logprobs_idx_flat_b64=base64.b64encode(ids.tobytes()).decode(),
            output_top_logprobs_val_flat_b64_dtype="float32",
            output_top_logprobs_idx_flat_b64_dtype="int32",
            output_top_logprobs_shape=[2, 2],
        ),
        logprob_temperature=0.6,
    )
    assert parsed.top is not None
    assert parsed.logprobs is not None
    assert (parsed.top.token_ids == ids).all()
    assert (parsed.top.logprobs == values).all()
    assert parsed.top.temperature == 0.6
    assert parsed.logprobs.tolist() == pytest.approx([-0.1, -0.7])


def test_a_generation_without_logprobs_has_none() -> None:
    parsed = parse_generation(answer(), logprob_temperature=1)
    assert (parsed.token_ids, parsed.finish_reason) == ((3, 4), "length")
    assert (parsed.top, parsed.logprobs) == (None, None)


def test_a_text_has_its_tokens_unless_a_stop_string_cut_it() -> None:
    assert parse_text_answer(answer(finish_reason={"type": "stop", "matched": 4})).token_ids == (3,)
    cut = parse_text_answer(answer(finish_reason={"type": "stop", "matched": "\n"}))
    assert cut.token_ids is None
    assert parse_text_answer(answer()).token_ids == (3, 4)


def test_an_aborted_request_is_an_error() -> None:
    with pytest.raises(errors.ServerError, match="out of memory"):
        parse_generation(
            answer(finish_reason={"type": "abort", "message": "out of memory"}),
            logprob_temperature=1,
        )


@pytest.mark.parametrize("is_run", [False, True])
def test_a_token_that_was_not_drawn_is_an_error(is_run: bool) -> None:
    """Where its logits are NaN, SGLang puts a stop token, and names a text that it has matched."""
    stopped = answer(finish_reason={"type": "stop", "matched": "NaN happened"})
    with pytest.raises(errors.ServerError, match="at 'NaN happened'"):
        parse_generation(stopped, logprob_temperature=1, may_be_aborted=is_run)
    for matched in (4, BELOW_FLOOR):
        ended = answer(finish_reason={"type": "stop", "matched": matched})
        assert parse_generation(ended, logprob_temperature=1).finish_reason == "stop"


def test_a_request_aborted_in_the_queue_has_no_counts() -> None:
    parsed = parse_generation(
        {"output_ids": [], "meta_info": {"finish_reason": {"type": "abort"}}},
        logprob_temperature=1,
        may_be_aborted=True,
    )
    assert (parsed.prompt_tokens, parsed.cached_tokens) == (0, 0)


def test_a_request_that_was_retracted_and_aborted_keeps_the_numbers_of_its_prompt() -> None:
    """SGLang's answer to the abort of a request in its queue has none."""
    request = Request((9,), 4, SamplingConfig(), stream_interval=1)
    submission = Submission(request, "tempered", RequestHandle(), lambda generation: None)
    submission.receive(submission.read(answer(finish_reason=None)))
    aborted = {"finish_reason": {"type": "abort", "message": "Abort in waiting queue"}}
    ended = submission.read({"output_ids": [3, 4], "text": "ab", "meta_info": aborted})
    assert (ended.prompt_tokens, ended.cached_tokens) == (5, 4)
    assert ended.interrupted is not None


def test_an_event_has_no_finish_reason() -> None:
    assert parse_generation(answer(finish_reason=None), logprob_temperature=1).finish_reason is None
