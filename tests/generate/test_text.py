"""Texts of tokens while they arrive: complete characters only, and in the end the whole text."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_sgl.generate.events import (
    Event,
    SequenceFinished,
    SequenceOpened,
    SequenceWithdrawn,
    TokensAppended,
    TokensWithdrawn,
)
from eager_sgl.generate.text import Detokenizer

TEXTS = [
    "plain ASCII, with  two spaces.\n",
    "naïve café, Ωμέγα, Привет",
    "漢字かな交じり文、한국어",
    "हिन्दी नमस्ते العربية",
    "🙂👍🏽👩‍👩‍👧🇩🇪🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "e\u0301 combining, and a real \ufffd too",
]
SPECIAL = 300
"""Tokens from here on give no text."""
SEEDS = st.integers(0, 1 << 30)


@dataclass
class Server:
    """Decodes; fails where it is sent more than it should be.

    Attributes:
        text_of: of the tokens of a sequence.
    """

    text_of: Callable[[Items[int]], str]
    num_requests: int = 0
    num_tokens: int = 0
    is_down: bool = False

    async def decode(self, sequences: list[tuple[int, ...]]) -> list[str]:
        assert sequences
        assert all(sequences)
        await asyncio.sleep(0)
        if self.is_down:
            raise ConnectionError("down")
        self.num_requests += 1
        self.num_tokens += sum(map(len, sequences))
        return [self.text_of(token_ids) for token_ids in sequences]


def byte_level(token_ids: Items[int]) -> str:
    """A token is a byte, as the smallest tokens of GPT-2's scheme are."""
    return bytes(t for t in token_ids if t < 256).decode(errors="replace")


PAIRS = 1000
"""Tokens from here on have two bytes."""


def byte_pairs(token_ids: Items[int]) -> str:
    """Tokens of one or two bytes, which may have parts of two characters."""
    parts = [
        divmod(t - PAIRS, 256) if t >= PAIRS else (t,) for t in token_ids if not 256 <= t < PAIRS
    ]
    return bytes(byte for part in parts for byte in part).decode(errors="replace")


def byte_fallback(token_ids: Items[int]) -> str:
    """SentencePiece's scheme: a run of bytes is a text only as a whole, and a first space is none.

    Tokens below 128 are characters, those from 128 on are bytes.
    """
    text, run = "", b""
    for token_id in [*(t for t in token_ids if t < 256), 0]:
        if token_id >= 128:
            run += bytes([token_id])
            continue
        try:
            text += run.decode()
        except UnicodeDecodeError:
            text += "\ufffd" * len(run)
        text, run = text + chr(token_id), b""
    return text[:-1].removeprefix(" ")


def complete(text: str) -> str:
    return text.rstrip("\ufffd")


class Consumer:
    """Applies events as their documentation says; the text fits the tokens after each of them."""

    def __init__(self, text_of: Callable[[Items[int]], str]) -> None:
        self.text_of = text_of
        self.tokens: dict[int, tuple[int, ...]] = {}
        self.texts: dict[int, str] = {}
        self.finished: set[int] = set()

    def apply(self, event: Event) -> None:
        match event:
            case SequenceOpened(sequence, parent, position, num_characters):
                shared, text = (
                    ((), "") if parent is None else (self.tokens[parent], self.texts[parent])
                )
                self._set(sequence, shared[:position], text[:num_characters])
            case TokensAppended(sequence, _, token_ids, text):
                assert token_ids or text
                is_last = not token_ids
                tokens = self.tokens[sequence] + token_ids
                self._set(sequence, tokens, self.texts[sequence] + text, is_last=is_last)
            case TokensWithdrawn(sequence, position, num_characters):
                self.finished.discard(sequence)
                tokens = self.tokens[sequence][:position]
                self._set(sequence, tokens, self.texts[sequence][:num_characters])
            case SequenceWithdrawn(sequence):
                del self.tokens[sequence], self.texts[sequence]
                self.finished.discard(sequence)
            case SequenceFinished(sequence):
                assert self.texts[sequence] == self.text_of(self.tokens[sequence])
                self.finished.add(sequence)

    def _set(
        self, sequence: int, tokens: tuple[int, ...], text: str, *, is_last: bool = False
    ) -> None:
        whole = self.text_of(tokens)
        assert text == (whole if is_last else complete(whole))
        self.tokens[sequence], self.texts[sequence] = tokens, text


@dataclass
class Script:
    """Random events that fit one another."""

    rng: random.Random
    encode: Callable[[bytes, random.Random], list[int]]
    num_tokens: dict[int, int] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    num_opened: int = 0

    def events(self, number: int) -> list[Event]:
        return [event for _ in range(number) for event in self._next()]

    def _next(self) -> list[Event]:
        rng, running = self.rng, sorted(self.num_tokens.keys() - self.finished)
        if not running or rng.random() < 0.1:
            return [self._open()]
        sequence = rng.choice(running)
        if rng.random() < 0.7:
            return [self._append(sequence)]
        if rng.random() < 0.3:
            self.finished.add(sequence)
            return [SequenceFinished(sequence, "stop")]
        return self._withdraw(rng.choice(sorted(self.num_tokens)))

    def _open(self) -> Event:
        sequence, self.num_opened = self.num_opened, self.num_opened + 1
        parent = self.rng.choice([None, *self.num_tokens])
        position = 0 if parent is None else self.rng.randint(0, self.num_tokens[parent])
        self.num_tokens[sequence] = position
        return SequenceOpened(sequence, parent, position)

    def _append(self, sequence: int) -> Event:
        """A part of a text, often with the end or the start of a character missing."""
        whole = self.rng.choice(TEXTS).encode()
        start = self.rng.randrange(len(whole))
        part = whole[start : start + self.rng.choice([1, 2, 3, 20])]
        position, token_ids = self.num_tokens[sequence], self.encode(part, self.rng)
        if self.rng.random() < 0.1:
            token_ids.insert(self.rng.randint(0, len(token_ids)), SPECIAL)
        self.num_tokens[sequence] += len(token_ids)
        return TokensAppended(sequence, position, tuple(token_ids))

    def _withdraw(self, sequence: int) -> list[Event]:
        if self.rng.random() < 0.2:
            del self.num_tokens[sequence]
            self.finished.discard(sequence)
            return [SequenceWithdrawn(sequence)]
        if not self.num_tokens[sequence]:
            return []
        self.num_tokens[sequence] = self.rng.randrange(self.num_tokens[sequence])
        self.finished.discard(sequence)
        return [TokensWithdrawn(sequence, self.num_tokens[sequence])]


def as_bytes(text: bytes, rng: random.Random) -> list[int]:
    return list(text)


def as_pairs(text: bytes, rng: random.Random) -> list[int]:
    """Cut anywhere, so that a token may end a character and start another."""
    token_ids: list[int] = []
    rest = list(text)
    while rest:
        if len(rest) > 1 and rng.random() < 0.6:
            token_ids.append(PAIRS + 256 * rest.pop(0) + rest.pop(0))
        else:
            token_ids.append(rest.pop(0))
    return token_ids


@pytest.mark.parametrize(("text_of", "encode"), [(byte_level, as_bytes), (byte_pairs, as_pairs)])
@given(seed=SEEDS)
def test_a_text_has_the_complete_characters_of_its_tokens_after_every_event(
    text_of: Callable[[Items[int]], str],
    encode: Callable[[bytes, random.Random], list[int]],
    seed: int,
) -> None:
    rng = random.Random(seed)
    server, script = Server(text_of), Script(rng, encode)
    detokenizer, consumer = Detokenizer(server.decode), Consumer(text_of)
    for _ in range(30):
        for event in asyncio.run(detokenizer.add_texts(script.events(rng.choice([1, 1, 4])))):
            consumer.apply(event)
    assert {s: len(tokens) for s, tokens in consumer.tokens.items()} == script.num_tokens
    assert consumer.finished == script.finished


def add_texts(detokenizer: Detokenizer, *events: Event) -> list[Event]:
    return asyncio.run(detokenizer.add_texts(events))


def stream(server: Server, chunks: Items[Items[int]]) -> list[str]:
    """The texts of a sequence whose tokens arrive in these chunks, and of its end."""
    detokenizer, position = Detokenizer(server.decode), 0
    events = add_texts(detokenizer, SequenceOpened(0, None, 0))
    for chunk in chunks:
        events += add_texts(detokenizer, TokensAppended(0, position, tuple(chunk)))
        position += len(chunk)
    events += add_texts(detokenizer, SequenceFinished(0, "stop"))
    return [event.text for event in events if isinstance(event, TokensAppended)]


@pytest.mark.parametrize("decode", [byte_level, byte_fallback])
@given(texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4), seed=SEEDS)
def test_pieces_of_any_chunks_make_up_the_whole_text(
    decode: Callable[[Items[int]], str], texts: list[str], seed: int
) -> None:
    whole, rng = " ".join(["", *texts]), random.Random(seed)
    rest, chunks = list(whole.encode()), []
    while rest:
        number = rng.choice([1, 1, 2, 5, 40])
        chunks.append(rest[:number])
        del rest[:number]
    pieces = stream(Server(decode), chunks)
    assert "".join(pieces) == decode(list(whole.encode()))


def test_a_character_is_reported_with_its_last_token() -> None:
    first, second, third = "字".encode()
    assert stream(Server(byte_level), [[97, first], [second], [third], [98]]) == [
        "a",
        "",
        "字",
        "b",
    ]


def test_the_bytes_of_an_incomplete_character_are_reported_at_the_end() -> None:
    assert stream(Server(byte_level), [[97], list("字".encode()[:2])]) == ["a", "", "\ufffd"]


def test_special_tokens_give_no_text() -> None:
    assert stream(Server(byte_level), [[SPECIAL], [97], [SPECIAL, 98], [SPECIAL]]) == [
        *["", "a", "b", ""]
    ]


def test_a_branch_inside_a_character_keeps_the_characters_before_it() -> None:
    detokenizer = Detokenizer(Server(byte_level).decode)
    shared, last = "a字".encode()[:-1], "孖".encode()[-1]
    add_texts(detokenizer, SequenceOpened(0, None, 0), TokensAppended(0, 0, tuple("a字".encode())))
    assert add_texts(
        detokenizer, SequenceOpened(1, 0, len(shared)), TokensAppended(1, len(shared), (last, 33))
    ) == [
        SequenceOpened(1, 0, len(shared), num_characters=1),
        TokensAppended(1, len(shared), (last, 33), "孖!"),
    ]


def test_requests_do_not_grow_with_a_sequence() -> None:
    server, token_ids = Server(byte_level), ("Ωμέγα 漢字 " * 200).encode()
    stream(server, [[token_id] for token_id in token_ids])
    assert server.num_requests == len(token_ids)
    assert server.num_tokens / server.num_requests < 60


def test_all_sequences_of_an_update_are_one_request() -> None:
    server = Server(byte_level)
    opened = [SequenceOpened(sequence, None, 0) for sequence in range(9)]
    appended = [TokensAppended(sequence, 0, (97, 98 + sequence)) for sequence in range(9)]
    detokenizer = Detokenizer(server.decode)
    add_texts(detokenizer, *opened)
    assert server.num_requests == 0
    add_texts(detokenizer, *appended)
    assert server.num_requests == 1


def test_events_may_be_given_again_after_an_error() -> None:
    server = Server(byte_level)
    detokenizer = Detokenizer(server.decode)
    add_texts(detokenizer, SequenceOpened(0, None, 0), TokensAppended(0, 0, (97,)))
    more = TokensWithdrawn(0, 0), TokensAppended(0, 0, (98, 99))
    server.is_down = True
    with pytest.raises(ConnectionError):
        add_texts(detokenizer, *more)
    server.is_down = False
    assert add_texts(detokenizer, *more) == [more[0], replace(more[1], text="bc")]
