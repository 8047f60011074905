"""The notation of answers: LaTeX and plain text, rewritten and taken apart. Pure text, no SymPy.

`links` splits an answer into the values that it equates, `read` makes a `Quantity` of a value
(body, unit, percent sign, number base), `comparisons` lists the pairs that can make two quantities
equal. `tidy` gives a text its uniform form, `arithmetic.evaluate` the exact value of a number.
"""

from evals.grading.notation.chain import Link, links
from evals.grading.notation.latex import tidy
from evals.grading.notation.quantity import Quantity, comparisons, is_equation, read

__all__ = ["Link", "Quantity", "comparisons", "is_equation", "links", "read", "tidy"]
