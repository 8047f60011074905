"""Votes: the answers of sequences, the method that stops once they agree, and the best sequence.

Low to high: `readers` (the field `eager.answer`), `method` (`Vote`), `ballot` (the result of a
vote), `live` (its stream).
"""
