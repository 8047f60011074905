"""Votes: the answers of sequences, and the best sequence.

Low to high: `readers` (the field `eager.answer`), `ballot` (the result of a vote).
"""
