"""The equality of mathematical expressions, by SymPy and mpmath, exact where possible.

`equivalence.compare(pairs)` is what others use, in a worker process: it may hang. Nothing is
imported here, because importing SymPy takes a second.
"""
