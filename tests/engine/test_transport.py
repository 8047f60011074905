"""Every fault by its name, and what is tried again; over real HTTP."""

import json
import multiprocessing
import queue
import socket
import threading
import time

import pytest

from eager_sgl import errors
from eager_sgl.engine import limits
from eager_sgl.engine.limits import PATIENT, PAUSE_JITTER, UNREPEATED, Patience
from eager_sgl.engine.shapes import as_object
from eager_sgl.engine.transport import Transport
from tests.fakes.http_server import ABORT, Handler, hanging, listening, serving, streaming

NUM_TRIES = len(PATIENT.pauses) + 1


def generated(seen):
    return [request for request in seen if request.path != ABORT]


def started(transport, build=dict, progress=None):
    """What `start` hands over at the end."""
    outcomes = queue.SimpleQueue()
    transport.start("/generate", build, as_object, outcomes.put, progress)
    return outcomes.get(timeout=30)


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (401, '{"error": "Unauthorized"}', errors.AuthenticationError, "--api-key"),
        (403, "", errors.AuthenticationError, "--api-key"),
        (400, '{"error": {"message": "too long"}}', errors.RequestRejectedError, "too long"),
        (404, "<html>", errors.RequestRejectedError, "no message"),
        (413, "too large", errors.RequestRejectedError, "too large"),
        (422, '{"detail": "no field"}', errors.RequestRejectedError, "no field"),
        (501, "never", errors.ServerError, "HTTP 501.*never"),
    ],
)
def test_a_refusal_has_its_exception_and_is_not_tried_again(status, body, error, said):
    with serving((status, body)) as (url, seen):
        with pytest.raises(error, match=said):
            Transport(url).post("/generate", dict)
        assert isinstance(started(Transport(url)), error)
    assert len(seen) == 2


LOST = {
    "reset": (None, ""),
    "too many requests": (429, "{}"),
    "internal error": (500, "boom"),
    "bad gateway": (502, "<html>"),
    "overloaded": (503, "{}"),
    "gateway time-out": (504, ""),
    "no JSON": (200, "<html>"),
    "nothing": (200, ""),
    "half of it": (200, '{"done": '),
    "a list": (200, "[]"),
    "null": (200, "null"),
    "a text": (200, '"done"'),
}


@pytest.mark.parametrize("kind", LOST)
def test_what_was_lost_is_asked_for_again_with_an_id_of_its_own(kind):
    ids = iter("abc")
    with serving(LOST[kind], LOST[kind], (200, '{"done": 1}')) as (url, seen):
        assert Transport(url).post("/generate", lambda: {"rid": next(ids)}) == {"done": 1}
    assert [request.body["rid"] for request in generated(seen)] == ["a", "b", "c"]
    aborted = [request.body["rid"] for request in seen if request.path == ABORT]
    assert aborted == ([] if kind in ("too many requests", "overloaded") else ["a", "b"])


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("reset", errors.ServerUnreachableError, "closed the connection before"),
        ("internal error", errors.ServerError, "HTTP 500.*boom"),
        ("no JSON", errors.MalformedAnswerError, "not an SGLang server.*<html>"),
        ("null", errors.MalformedAnswerError, "None is no JSON object"),
    ],
)
def test_what_is_lost_for_good_says_how_often_it_was_tried(kind, error, said):
    with serving(LOST[kind]) as (url, seen):
        with pytest.raises(error, match=f"{said}.*tried {NUM_TRIES} times in 0 s"):
            Transport(url).post("/tokenize", dict)
        assert isinstance(started(Transport(url)), error)
    assert len(generated(seen)) == 2 * NUM_TRIES


def test_a_body_shorter_than_it_says_is_lost():
    lengths = iter([30, 30, 11])

    class Server(Handler):
        def reply(self, request):
            self.close_connection = True
            self.send(200, b'{"done": 1}', length=next(lengths))

    with listening(Server) as url:
        assert Transport(url).post("/generate", dict) == {"done": 1}


def test_about_half_a_minute_is_waited_in_seven_tries():
    assert NUM_TRIES == 7
    shortest, longest = (factor * sum(PATIENT.pauses) for factor in PAUSE_JITTER)
    assert 20 < shortest < longest < 60
    first = limits.FIRST_CONTACT
    longest = PAUSE_JITTER[1] * sum(first.pauses) + (len(first.pauses) + 1) * first.timeout
    assert 10 < longest < 20


def test_a_server_that_is_away_for_a_while_is_waited_for(monkeypatch):
    monkeypatch.setattr(limits, "PAUSE_JITTER", (0.1, 0.1))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    class Server(Handler):
        def reply(self, request):
            self.send(200, b'{"done": 1}')

    answers = queue.SimpleQueue()
    Transport(f"http://127.0.0.1:{port}").start("/generate", dict, as_object, answers.put)
    time.sleep(0.3)
    with listening(Server, port):
        assert answers.get(timeout=30) == {"done": 1}


def test_nobody_listening_is_one_sentence():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nobody = Transport(f"http://127.0.0.1:{port}")
    with pytest.raises(errors.ServerUnreachableError, match=f":{port}.*refused; tried 7 times"):
        nobody.get("/model_info")
    assert not nobody.is_answering()


@pytest.mark.parametrize(
    ("reply", "answers"),
    [
        ((200, "{}"), True),
        ((401, ""), True),
        ((404, ""), True),
        ((500, ""), False),
        ((503, ""), False),
        ((None, ""), False),
    ],
)
def test_whether_a_server_answers_is_asked_once(reply, answers):
    with serving(reply) as (url, seen):
        assert Transport(url).is_answering() is answers
    assert len(seen) <= 2  # aiohttp itself sends a GET again whose connection was closed


def test_a_server_that_hangs_does_not_answer(monkeypatch):
    monkeypatch.setattr(limits, "ALIVE_TIMEOUT", 0.2)
    with hanging() as url:
        assert not Transport(url).is_answering()


# Limits


def test_a_small_route_has_a_short_limit(monkeypatch):
    monkeypatch.setattr(limits, "SMALL_TIMEOUT", 0.05)
    assert limits.SMALL_TIMEOUT <= 20
    with hanging() as url:
        late = pytest.raises(
            errors.ServerUnreachableError, match=r"no complete answer within 0\.05"
        )
        with late:
            Transport(url).get("/server_info")
        with late:
            Transport(url).post("/detokenize", dict)


def trickle(piece=b" ", pause=0.02):
    """A handler whose answers never end, though something comes all the time."""

    class Server(Handler):
        def reply(self, request):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "100000")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(piece)
                    threading.Event().wait(pause)
            except OSError:
                self.close_connection = True

    return Server


def test_the_limit_of_a_request_is_total():
    with listening(trickle()) as url:
        begun = time.monotonic()
        with pytest.raises(
            errors.ServerUnreachableError, match=r"no complete answer within 0\.3 s"
        ):
            Transport(url, request_timeout=0.3).post("/generate", dict, patience=UNREPEATED)
        assert time.monotonic() - begun < 5


def test_silence_is_limited_apart_from_that():
    with (
        hanging() as url,
        pytest.raises(errors.ServerUnreachableError, match=r"answer within 0\.2 s"),
    ):
        Transport(url, silence_timeout=0.2).post("/generate", dict, patience=UNREPEATED)
    handler = trickle()
    with listening(handler) as url, pytest.raises(errors.ServerError, match=r"within 0\.8 s"):
        Transport(url, request_timeout=0.8, silence_timeout=0.4).post(
            "/generate", dict, patience=UNREPEATED
        )


def test_what_draws_tokens_and_takes_too_long_is_not_drawn_again_but_aborted():
    with serving((200, "{}"), delay=1.0) as (url, seen):
        with pytest.raises(errors.ServerUnreachableError, match=r"within 0\.2 s"):
            Transport(url, silence_timeout=0.2).post(
                "/generate", lambda: {"rid": "mine"}, patience=UNREPEATED
            )
        assert [request.path for request in seen] == ["/generate", ABORT]
        assert seen[1].body == {"rid": "mine"}


def test_what_takes_too_long_and_draws_nothing_is_asked_for_again():
    with hanging() as url, pytest.raises(errors.ServerUnreachableError, match="tried 3 times"):
        Transport(url).post("/generate", dict, patience=Patience((1.0, 1.0), timeout=0.1))


@pytest.mark.parametrize("limit", ["request_timeout", "silence_timeout"])
def test_a_request_that_takes_too_long_is_told_to_stop_and_its_answer_counts(limit):
    stopped, seen = threading.Event(), []

    class Server(Handler):
        def abort(self, request):
            seen.append(request)
            stopped.set()

        def reply(self, request):
            seen.append(request)
            assert stopped.wait(10)
            self.send(200, b'{"so": "far"}')

    with listening(Server) as url:
        assert started(Transport(url, **{limit: 0.2}), lambda: {"rid": "a"}) == {"so": "far"}
    assert [(request.path, request.body["rid"]) for request in seen] == [
        ("/generate", "a"),
        (ABORT, "a"),
    ]


def test_a_request_that_cannot_be_stopped_is_asked_for_again(monkeypatch):
    monkeypatch.setattr(limits, "ABORT_TIMEOUT", 0.1)
    ids = iter("abcdefghij")
    with serving((200, "{}"), delay=5.0) as (url, seen):
        outcome = started(Transport(url, silence_timeout=0.1), lambda: {"rid": next(ids)})
    assert isinstance(outcome, errors.ServerUnreachableError)
    assert [request.body["rid"] for request in generated(seen)] == list("abcdefg")


# What users say of a server


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:30000", "localhost:30000.*http://"),
        ("ftp://localhost", "http://"),
        ("http://", "name a host"),
        ("https://", "name a host"),
        ("http:///model", "name a host"),
        ("http://:30000", "name a host"),
        ("http://local host:30000", "name a host"),
        ("http://localhost:30000/v1", "without /v1"),
        ("http://localhost:30000/v1/", "without /v1"),
        ("https://host/prefix/v1", "without /v1"),
        ("http://a..b:1", "label"),
        (f"http://{'a' * 70}.org", "label"),
        ("http://localhost:port", "Port could not be cast"),
        ("http://localhost:99999", "out of range"),
        ("http://localhost:30000/?key=1", "before the"),
        ("http://[::1", "Invalid IPv6"),
        ("", "http://"),
        (None, "http://"),
    ],
)
def test_a_url_that_cannot_be_one_is_refused(url, said):
    with pytest.raises(ValueError, match=said):
        Transport(url)
    if url is not None:
        with pytest.raises(ValueError, match=said):
            Transport("http://localhost", router=url)


@pytest.mark.parametrize("url", ["http://h:1/", "https://h/prefix", "http://[::1]:3/", "http://v1"])
def test_other_urls_are_taken(url):
    assert Transport(url).url == url.rstrip("/")


@pytest.mark.parametrize("key", ["schlüssel", "ключ", "a b", "a\n", "\x7f", "sk-…"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key):
    with pytest.raises(ValueError, match=r"character \d of the API key is U\+") as caught:
        Transport("http://localhost", api_key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("name", ["request_timeout", "silence_timeout"])
@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 0, 0.0, -1, "10", True, None])
def test_a_limit_that_is_no_time_is_refused(name, seconds):
    with pytest.raises(ValueError, match=f"{name} is {seconds}.*finite number of seconds above 0"):
        Transport("http://localhost", **{name: seconds})


def test_a_server_of_another_protocol_is_named_on_one_line():
    class Shell(Handler):
        def reply(self, request):
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            self.hang_up()

    unreachable = pytest.raises(errors.ServerUnreachableError, match="is no readable HTTP")
    with listening(Shell) as url, unreachable as caught:
        Transport(url).get("/model_info")
    assert "\n" not in str(caught.value)


def test_a_plain_server_asked_with_tls_is_named_at_once():
    with serving((200, "{}")) as (url, _):
        secure = Transport(url.replace("http", "https"))
        with pytest.raises(errors.ServerUnreachableError, match="does not speak TLS.*http://"):
            secure.get("/model_info")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"prompt": "make \ud83d"}, r"'make \\ud83d'"),
        ({"messages": [{"role": "user", "content": "a\udc00"}]}, r"'a\\udc00'"),
        ({"messages": [{"content": [{"text": "\ud800!"}]}]}, r"'\\ud800!'"),
        ({"sampling_params": {"stop": ["\udfff"]}}, r"'\\udfff'"),
        ({"\ud83d": 1}, r"'\\ud83d'"),
        ({"n": 2**80}, "cannot be written as JSON"),
        ({"n": {1, 2}}, "cannot be written as JSON"),
    ],
)
def test_what_cannot_be_written_is_refused_and_named(body, said):
    with serving((200, "{}")) as (url, seen):
        with pytest.raises(ValueError, match=said):
            Transport(url).post("/tokenize", lambda: body)
        assert isinstance(started(Transport(url), lambda: body), ValueError)
    assert seen == []


# Many at once


def test_many_requests_wait_without_a_thread_each():
    answers, number = queue.SimpleQueue(), 50
    with serving((200, '{"done": 1}'), delay=0.5) as (url, _):
        transport = Transport(url)
        for _ in range(number):
            transport.start("/generate", dict, as_object, answers.put)
        own = [t for t in threading.enumerate() if t.name == "eager_sgl.io"]
        assert len(own) == 1
        assert [answers.get(timeout=30) for _ in range(number)] == [{"done": 1}] * number


def test_the_connection_is_kept_and_the_key_is_sent():
    with serving((200, "{}")) as (url, seen):
        transport = Transport(url, api_key="secret")
        transport.post("/generate", dict)
        transport.post("/generate", dict)
    assert len({request.client_port for request in seen}) == 1
    assert {request.key for request in seen} == {"Bearer secret"}


def _ask(transport, answers):
    answers.put(transport.post("/tokenize", dict))


def test_a_forked_child_has_connections_of_its_own():
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    with serving((200, '{"done": 1}')) as (url, seen):
        transport = Transport(url)
        transport.post("/tokenize", dict)
        children = [
            context.Process(target=_ask, args=(transport, answers), daemon=True) for _ in range(3)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(20)
        assert [child.exitcode for child in children] == [0, 0, 0]
        assert transport.post("/tokenize", dict) == {"done": 1}
    assert [answers.get() for _ in children] == [{"done": 1}] * 3
    parents = {seen[0].client_port, seen[-1].client_port}
    assert len(parents) == 1
    assert len({request.client_port for request in seen}) == 4


def test_a_notice_reaches_the_server():
    with serving((200, "{}")) as (url, seen):
        Transport(url).notify(ABORT, {"rid": "mine"})
    assert [request.body for request in seen] == [{"rid": "mine"}]


# Streams


def event(finish=None, tokens=(3,), **meta):
    reason = finish and {"type": finish}
    meta = {"finish_reason": reason, "prompt_tokens": 1, "cached_tokens": 0} | meta
    return "data: " + json.dumps({"output_ids": list(tokens), "meta_info": meta}) + "\n\n"


DONE = "data: [DONE]\n\n"
EVENTS = "text/event-stream"


def test_a_stream_is_passed_on_as_it_comes_and_its_end_is_the_answer():
    first, last = event(tokens=[3]), event("stop", tokens=[3, 4, 0])
    cut = len(last) // 2
    with streaming(first, last[:cut], last[cut:] + DONE) as (url, release):
        heard = []

        def heard_from(answer):
            heard.append(answer["output_ids"])
            release()
            release()

        answer = Transport(url).post("/generate", dict, progress=heard_from)
    assert heard == [[3]]
    assert answer["output_ids"] == [3, 4, 0]


def test_an_event_may_be_longer_than_any_buffer():
    tokens = list(range(100_000))
    with streaming(event("stop", tokens=tokens) + DONE) as (url, _):
        assert Transport(url).post("/generate", dict)["output_ids"] == tokens


@pytest.mark.parametrize(
    "last",
    [
        "",
        "data: {",
        "data: <html>\n\n",
        "data: []\n\n",
        "data: {}\n\n",
        'data: {"meta_info": 3}\n\n',
    ],
)
def test_a_stream_that_breaks_off_is_not_begun_again_once_a_part_was_passed_on(last):
    tries = []
    with streaming(event(), *([last] if last else [])) as (url, release):
        outcome = started(Transport(url), lambda: tries.append(1) or {}, lambda _: release())
    assert isinstance(outcome, errors.BrokenAnswerError)
    assert len(tries) == 1


@pytest.mark.parametrize("first", ["", "data: {}\n\n", 'data: {"meta_info": {}}\n\n', event()[:20]])
def test_a_stream_that_breaks_off_before_that_is_begun_again(first):
    replies = [(200, first), (200, first), (200, event("stop", tokens=[7]) + DONE)]
    with serving(*replies, kind=EVENTS) as (url, seen):
        answer = started(Transport(url), progress=lambda part: None)
    assert answer["output_ids"] == [7]
    assert len(generated(seen)) == 3


def test_a_server_that_is_too_busy_to_begin_a_stream_is_asked_again():
    busy = event("abort").replace('"abort"', '"abort", "status_code": 503, "message": "queue full"')
    with serving(
        (200, busy + DONE), (200, busy + DONE), (200, event("stop", tokens=[7]) + DONE), kind=EVENTS
    ) as (url, seen):
        assert Transport(url).post("/generate", dict)["output_ids"] == [7]
    assert len(seen) == 3
    full = pytest.raises(errors.ServerError, match="queue full")
    with serving((200, busy + DONE), kind=EVENTS) as (url, _), full:
        Transport(url).post("/generate", dict)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "too long", "code": 400}, errors.RequestRejectedError),
        ({"message": "too long"}, errors.RequestRejectedError),
        ("too long", errors.RequestRejectedError),
        ({"message": "too long", "code": 500}, errors.ServerError),
    ],
)
def test_what_is_refused_once_a_stream_has_begun_is_refused(error, kind):
    refusal = f"data: {json.dumps({'error': error})}\n\n"
    refused = pytest.raises(kind, match="too long")
    with serving((200, refusal + DONE), kind=EVENTS) as (url, _), refused:
        Transport(url).post("/generate", dict)
