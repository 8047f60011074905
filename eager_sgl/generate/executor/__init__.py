"""The requests that generate the tree of a prompt.

The schedule decides again after every answer, and its segments are requested at once. So all
segments of all prompts run in the server's batch, none waits for the slowest, and a segment that
can no longer branch is generated to its end in one request while others are monitored. A request
whose segment is no longer on a path is aborted.

A request may be interrupted: its stream ends early, its time limit aborts it, or its replica dies.
Its tokens stay in the tree, and the schedule requests the rest. The distribution does not change if
the moment depends only on time and on the tokens before it, as for aborted requests. It changes
slightly if a stream with a θ ends early: the tokens since its last report are lost, all of which
were below θ, and the tokens sampled in their place may reach it. So the number of superfluous
branches is at most the number of streams that ended early. The steps that a search stores arrive
with the tokens, and nothing depends on when.

Under the chunk monitor a request is for as many tokens as the path has since its last branch,
between `chunk_tokens` and eight times that. About half of the tails after branches are discarded,
so chunks are short where branches are frequent; a request costs a forward pass for its prefill, so
they are long where branches are rare. With `chunk_tokens` = 1 every request is for a single token,
as in the paper's reference implementation.

Low to high:
    in_flight, flights   a running request; those of a tree, and what has arrived of them
    builder              the request for a segment
    tree_executor        `TreeExecutor`
"""

from __future__ import annotations

from eager_sgl.generate.executor.tree_executor import TreeExecutor

__all__ = ["TreeExecutor"]
