"""The token tree of a prompt: all sampled tokens, and the only place where tokens are counted.

A *segment* is a run of tokens sampled one after another. Branching does not cut a segment: a new
segment leaves it at a position, and the later tokens are kept. The schedule's replay decides which
of them a sequence holds.

Every segment has a seed. SGLang's noise is a function of the seed, the position and the token, so
two branches with the same seed would be drawn with common noise, while the requests that continue a
segment need its seed to draw what a single request would. A segment's seed follows from that of the
tree, the prompt and the branches on its path. So it does not depend on the order of answers, nor on
the lengths of requests.
"""

from __future__ import annotations

from eager_sgl.tree.segment import Draw, Probe, Segment
from eager_sgl.tree.token_tree import TokenTree

__all__ = ["Draw", "Probe", "Segment", "TokenTree"]
