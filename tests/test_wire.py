"""SGLang's formats, and every fault by its name; over real HTTP where the network matters."""

import base64
import json
import queue
import socket
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from eager_sgl import errors, wire
from eager_sgl.wire import Transport, generate_payload, matched_stop_token, parse_generation

META = {"prompt_tokens": 5, "cached_tokens": 4, "finish_reason": {"type": "length", "length": 2}}


def answer(**meta):
    return {"output_ids": [3, 4], "text": "ab", "meta_info": META | meta}


def test_no_logprobs_are_asked_for_unless_wanted():
    plain = generate_payload([1, 2], {"temperature": 0.6}, request_id="r")
    assert plain == {"rid": "r", "input_ids": [1, 2], "sampling_params": {"temperature": 0.6}}
    monitored = generate_payload([1, 2], {}, request_id="r", top_logprobs=20)
    assert monitored["return_logprob"] is True
    assert monitored["top_logprobs_num"] == 20


def test_flat_arrays_become_rows_of_alternatives():
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
    assert (parsed.top.token_ids == ids).all()
    assert (parsed.top.logprobs == values).all()
    assert parsed.top.temperature == 0.6
    assert parsed.logprobs.tolist() == pytest.approx([-0.1, -0.7])


def test_a_generation_without_logprobs_has_none():
    parsed = parse_generation(answer(), logprob_temperature=1)
    assert (parsed.token_ids, parsed.finish_reason) == ((3, 4), "length")
    assert (parsed.top, parsed.logprobs) == (None, None)


def test_what_ended_a_generation_is_a_token_or_a_text():
    assert matched_stop_token(answer(finish_reason={"type": "stop", "matched": 4})) == 4
    assert matched_stop_token(answer(finish_reason={"type": "stop", "matched": "\n"})) is None


def test_an_aborted_request_is_an_error():
    with pytest.raises(errors.ServerError, match="out of memory"):
        parse_generation(
            answer(finish_reason={"type": "abort", "message": "out of memory"}),
            logprob_temperature=1,
        )


@contextmanager
def listening(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def serving(*replies, delay=0.0, content_type="application/json"):
    """A server that gives these (status, body) replies in turn; status None hangs up."""
    replies, seen = list(replies), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.client_address[1], self.headers.get("Authorization"), body))
            status, content = replies.pop(0)
            if status is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            threading.Event().wait(delay)
            data = content.encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(BrokenPipeError):
                self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    with listening(Handler) as url:
        yield url, seen


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(wire, "_RETRY_PAUSES", (0.01, 0.01))


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (401, '{"error": "Unauthorized"}', errors.AuthenticationError, "--api-key"),
        (400, '{"error": {"message": "too long"}}', errors.RequestRejectedError, "too long"),
        (422, '{"detail": "no field"}', errors.RequestRejectedError, "no field"),
        (500, "boom", errors.ServerError, "HTTP 500.*boom"),
        (200, "<html>", errors.ServerError, "not an SGLang server"),
    ],
)
def test_every_refusal_has_its_exception(status, body, error, said):
    with serving((status, body)) as (url, _), pytest.raises(error, match=said):
        Transport(url).post("/generate", dict)


def test_a_lost_or_overloaded_request_is_sent_again_with_an_id_of_its_own():
    ids = iter("abc")
    with serving((None, ""), (503, "{}"), (200, '{"done": 1}')) as (url, seen):
        assert Transport(url).post("/generate", lambda: {"rid": next(ids)}) == {"done": 1}
    assert [body["rid"] for _, _, body in seen] == ["a", "b", "c"]


def test_a_refused_request_is_not_sent_again():
    with serving((400, "{}")) as (url, seen), pytest.raises(errors.RequestRejectedError):
        Transport(url).post("/generate", dict)
    assert len(seen) == 1


def test_a_time_out_is_not_tried_again():
    with serving((200, "{}"), delay=2.0) as (url, seen):
        with pytest.raises(errors.ServerUnreachableError, match=r"no answer within 0\.2 s"):
            Transport(url, timeout=0.2).post("/generate", dict)
        assert len(seen) == 1


def test_nobody_listening_is_one_sentence():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(errors.ServerUnreachableError, match=f":{port}.*refused"):
        Transport(f"http://127.0.0.1:{port}").get("/model_info")


def test_many_requests_wait_without_a_thread_each():
    answers, number = queue.SimpleQueue(), 50
    with serving(*[(200, '{"done": 1}')] * number, delay=0.5) as (url, _):
        transport = Transport(url)
        for _ in range(number):
            transport.start("/generate", dict, answers.put)
        own = [t for t in threading.enumerate() if t.name.startswith("eager_sgl")]
        assert len(own) == 1
        assert [answers.get(timeout=30) for _ in range(number)] == [{"done": 1}] * number


def test_a_fault_reaches_whoever_started_the_request():
    answers = queue.SimpleQueue()
    with serving((400, '{"detail": "no field"}')) as (url, _):
        Transport(url).start("/generate", dict, answers.put)
        assert isinstance(answers.get(timeout=30), errors.RequestRejectedError)


def test_the_connection_is_kept_and_the_key_is_sent():
    with serving((200, "{}"), (200, "{}")) as (url, seen):
        transport = Transport(url, api_key="secret")
        transport.post("/generate", dict)
        transport.post("/generate", dict)
    assert len({port for port, _, _ in seen}) == 1
    assert {key for _, key, _ in seen} == {"Bearer secret"}


def test_a_url_without_a_scheme_is_refused():
    with pytest.raises(ValueError, match="localhost:30000.*http://"):
        Transport("localhost:30000")


def event(finish=None, tokens=(3,), **meta):
    reason = finish and {"type": finish}
    meta = {"finish_reason": reason, "prompt_tokens": 1, "cached_tokens": 0} | meta
    return "data: " + json.dumps({"output_ids": list(tokens), "meta_info": meta}) + "\n\n"


DONE = "data: [DONE]\n\n"


@contextmanager
def streaming(*pieces):
    """A server that sends the pieces of a stream, each when the one before was taken note of."""
    heard = threading.Semaphore(1)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.end_headers()
            for piece in pieces:
                assert heard.acquire(timeout=10)
                self.wfile.write(piece.encode())

        def log_message(self, *arguments):
            pass

    with listening(Handler) as url:
        yield url, heard.release


def test_a_stream_is_passed_on_as_it_comes_and_its_end_is_the_answer():
    first, last = event(tokens=[3]), event("stop", tokens=[3, 4, 0])
    cut = len(last) // 2
    with streaming(first, last[:cut], last[cut:] + DONE) as (url, release):
        heard = []

        def hear(answer):
            heard.append(answer["output_ids"])
            release()
            release()

        answer = Transport(url).post("/generate", dict, hear)
    assert heard == [[3]]
    assert answer["output_ids"] == [3, 4, 0]


def test_an_event_may_be_longer_than_any_buffer():
    tokens = list(range(100_000))
    with streaming(event("stop", tokens=tokens) + DONE) as (url, _):
        assert Transport(url).post("/generate", dict)["output_ids"] == tokens


@pytest.mark.parametrize("pieces", [[event()], [event(), event(tokens=[3, 4])]])
def test_a_stream_that_breaks_off_is_an_error_and_not_begun_again(pieces):
    tries = []
    with streaming(*pieces) as (url, release), pytest.raises(errors.ServerError, match="broke off"):
        Transport(url).post("/generate", lambda: tries.append(1) or {}, lambda _: release())
    assert len(tries) == 1


def test_a_server_that_is_too_busy_to_begin_a_stream_is_asked_again():
    busy = event("abort").replace('"abort"', '"abort", "status_code": 503, "message": "queue full"')
    replies = [(200, busy + DONE), (200, busy + DONE), (200, event("stop", tokens=[7]) + DONE)]
    with serving(*replies, content_type="text/event-stream") as (url, seen):
        assert Transport(url).post("/generate", dict)["output_ids"] == [7]
    assert len(seen) == 3
    full = pytest.raises(errors.ServerError, match="queue full")
    with serving(*[replies[0]] * 3, content_type="text/event-stream") as (url, _), full:
        Transport(url).post("/generate", dict)


def test_what_was_aborted_in_the_queue_has_no_counts():
    parsed = parse_generation(
        {"output_ids": [], "meta_info": {"finish_reason": {"type": "abort"}}},
        logprob_temperature=1,
        may_be_aborted=True,
    )
    assert (parsed.prompt_tokens, parsed.cached_tokens) == (0, 0)


def test_what_is_refused_once_a_stream_has_begun_is_refused():
    refusal = 'data: {"error": {"message": "too long", "code": 400}}\n\n'
    refused = pytest.raises(errors.RequestRejectedError, match="too long")
    with streaming(refusal + DONE) as (url, _), refused:
        Transport(url).post("/generate", dict)


def test_a_part_of_an_answer_has_no_end_and_says_what_the_gate_tells():
    told = [None, [1, [8, 3], [-0.5, -1.0]], [4, [3, 8], [-0.1, -1e9]]]
    part = parse_generation(
        answer(finish_reason=None, eager_gate=told), logprob_temperature=0.6, gate_top_k=2
    )
    assert part.finish_reason is None
    assert part.told == (1, 4)
    assert part.top.token_ids.tolist() == [[8, 3], [3, 8]]
    assert part.top.logprobs.tolist() == [[-0.5, -1.0], [pytest.approx(-0.1), -1e9]]
    assert part.top.temperature == 1.0
    silent = parse_generation(answer(), logprob_temperature=0.6, gate_top_k=2)
    assert (silent.told, silent.top.token_ids.shape) == ((), (0, 2))


def test_a_notice_reaches_the_server():
    with serving((200, "{}")) as (url, seen):
        Transport(url).notify("/abort_request", {"rid": "mine"})
    assert [body for _, _, body in seen] == [{"rid": "mine"}]
