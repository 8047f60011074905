"""Votes: the answers of sequences, their weights, and when a vote is decided.

Everything here reads finished sequences, and `outweighing` the probabilities of running ones.
`eager_sgl.search.vote` starts and ends them.
"""

from __future__ import annotations

from eager_sgl.voting.answers import AnswerClasses, AnswerReader, boxed_answer, json_answer
from eager_sgl.voting.votes import vote_totals, vote_uncertainty, vote_weights, vote_winner

__all__ = [
    "AnswerClasses",
    "AnswerReader",
    "boxed_answer",
    "json_answer",
    "vote_totals",
    "vote_uncertainty",
    "vote_weights",
    "vote_winner",
]
