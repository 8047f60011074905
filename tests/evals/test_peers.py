"""The command that compares `vote` with peers, and the answers that they are compared by."""

from __future__ import annotations

import pytest

from evals.peers import __main__ as peers
from evals.peers.answers import expression_answer, projection


@pytest.mark.parametrize("other", ["03*8", "8 * 3", " (08*03)\n", "03*(8)"])
def test_an_expression_is_equal_however_it_is_written(other: str) -> None:
    assert expression_answer("03*08") == expression_answer(other) is not None


@pytest.mark.parametrize("other", ["03+08", "24", "06*04"])
def test_other_values_and_other_numbers_are_other_answers(other: str) -> None:
    assert expression_answer("03*08") != expression_answer(other) is not None


@pytest.mark.parametrize("text", ["", "no expression", "3/0", "1: 3*8"])
def test_another_text_has_no_answer_and_agrees_with_none(text: str) -> None:
    assert expression_answer(text) is None
    whole = f"1: a try</think>{text}"
    assert projection(whole) != projection(whole)


def test_the_projection_of_a_whole_text_is_the_answer_after_its_reasoning() -> None:
    assert projection("1: 2*12</think>3*8") == expression_answer("3*8")
    assert projection("3*8") != projection("3*8")  # the reasoning is not closed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--contenders", "its_hub,vote+weight"], "unknown contender 'vote+weight'; choose from"),
        (["--contenders", "trie_parallel"], "unknown contender 'trie_parallel'; choose from vote,"),
        (["--contenders", "vote,vote"], "--contenders is vote,vote; each value may be given once"),
        (["--eager", "{"], "--eager is '{', which is not JSON"),
        (["--eager", "3"], "--eager is '3'; it must be an object in braces"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def start() -> None:
        raise AssertionError("the peers' environment was asked for")

    monkeypatch.setattr(peers, "peers_python", start)
    with pytest.raises(SystemExit):
        peers.main(arguments)
    assert said in capsys.readouterr().err
