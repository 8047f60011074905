"""Segments: where they leave their parents, and their cost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from eager_sgl.core import BranchPoint, Generation, TopLogprobs
from eager_sgl.policy import StepSignals
from eager_sgl.tree import Segment, TokenTree

CLOSE, OPEN_END = 1, (7, 8)


def append(tree: TokenTree, segment: Segment, generation: Any) -> Any:
    tree.append(segment, generation, num_asked=len(generation.token_ids))


def generation(
    *token_ids: Any,
    finish_reason: Any = "length",
    cached: Any = 0,
    prompt: Any = 1,
    top: Any = None,
) -> Any:
    return Generation(
        token_ids=token_ids,
        finish_reason=finish_reason,
        prompt_tokens=prompt,
        cached_tokens=cached,
        top=top,
    )


def point(position: int, first: Any, second: Any, sampled: Any) -> Any:
    return BranchPoint(
        position=position,
        entropy=1.0,
        token_ids=(first, second),
        probabilities=(0.5, 0.4),
        logprobs=(-0.7, -0.9),
        sampled=sampled,
    )


def tree_with_root(*token_ids: Any, **arguments: Any) -> Any:
    tree = TokenTree([9], **({"max_new_tokens": 10} | arguments))
    root = tree.open_root()
    append(tree, root, generation(*token_ids))
    return tree, root


@pytest.mark.parametrize(
    ("sampled", "kept_by_first", "kept_by_second"), [(2, True, False), (3, False, True)]
)
def test_the_token_that_was_sampled_keeps_the_tail(
    sampled: Any, kept_by_first: Any, kept_by_second: Any
) -> None:
    tree, root = tree_with_root(4, sampled, 5)
    first, second = (tree.branch(root, point(1, 2, 3, sampled), choice) for choice in (0, 1))
    assert (first is root, second is root) == (kept_by_first, kept_by_second)
    assert root.path() == [4, sampled, 5]


def test_if_neither_token_was_sampled_both_segments_are_new() -> None:
    tree, root = tree_with_root(4, 0, 5)
    first, second = (tree.branch(root, point(1, 2, 3, 0), choice) for choice in (0, 1))
    assert (first.path(), second.path()) == ([4, 2], [4, 3])
    assert first.path_logprobs()[1] == -0.7
    counts = tree.counts([first, second])
    assert (counts.generated, counts.unique, counts.naive, counts.forced) == (3, 3, 4, 2)
    assert counts.discarded == 2


def test_a_branch_is_opened_once() -> None:
    tree, root = tree_with_root(4, 0, 5)
    assert tree.branch(root, point(1, 2, 3, 0), 1) is tree.branch(root, point(1, 2, 3, 0), 1)
    assert len(tree.segments) == 2


def test_shared_prefixes_count_once_and_segments_on_no_path_not_at_all() -> None:
    tree, root = tree_with_root(4, 2, 5)
    child = tree.branch(root, point(1, 2, 3, 2), 1)
    append(tree, child, generation(6, 6))
    grandchild = tree.branch(child, point(2, 6, 7, 6), 1)
    append(tree, grandchild, generation(8, 8, 8))
    assert grandchild.path() == [4, 3, 7, 8, 8, 8]
    everything = tree.counts([root, child, grandchild])
    assert (everything.unique, everything.naive, everything.forced) == (10, 13, 2)
    assert everything.discarded == 0
    without_child = tree.counts([root, grandchild])
    assert (without_child.unique, without_child.discarded) == (8, 2)


def test_a_forced_stop_token_ends_the_sequence_without_a_request() -> None:
    tree, root = tree_with_root(4, 2, is_stop=lambda token: token == 3)
    child = tree.branch(root, point(1, 2, 3, 2), 1)
    assert child.finish_reason == "stop"
    assert tree.counts([root, child]).requests == 1


def test_a_branch_at_the_last_position_ends_both() -> None:
    tree, root = tree_with_root(4, 0, max_new_tokens=2)
    segments = [tree.branch(root, point(1, 2, 3, 0), choice) for choice in (0, 1)]
    assert [segment.finish_reason for segment in segments] == ["length", "length"]


def test_limit_and_stop_token_set_the_finish_reason() -> None:
    assert tree_with_root(4, 4, max_new_tokens=2)[1].finish_reason == "length"
    tree, root = tree_with_root(4)
    append(tree, root, generation(5, finish_reason="stop"))
    assert root.finish_reason == "stop"


def everywhere(top: Any, sampled: Any, start: Any) -> Any:
    points = [point(start + step, 2, 3, token) for step, token in enumerate(sampled)]
    return StepSignals([1.0] * len(sampled), points)


def test_steps_are_monitored_up_to_the_token_that_closes_the_reasoning() -> None:
    tree = TokenTree([9], max_new_tokens=10, policy=everywhere, reasoning_end=[CLOSE])
    root = tree.open_root()
    uniform = TopLogprobs(np.zeros((4, 2), np.int32), np.zeros((4, 2), np.float32), 1.0)
    append(tree, root, generation(5, 5, CLOSE, 5, top=uniform))
    assert [p.position for p in root.branch_points] == [0, 1, 2]
    assert [math.isnan(entropy) for entropy in root.entropies] == [False, False, False, True]
    assert root.reasoning_closed


def test_a_marker_of_several_tokens_closes_across_requests_and_branches() -> None:
    tree = TokenTree([9], max_new_tokens=10, reasoning_end=OPEN_END)
    root = tree.open_root()
    append(tree, root, generation(8, 7))
    assert not root.reasoning_closed
    child = tree.branch(root, point(2, 8, 7, 0), 0)
    sibling = tree.branch(root, point(2, 8, 7, 0), 1)
    assert (child.reasoning_closed, sibling.reasoning_closed) == (True, False)
    append(tree, root, generation(8, 5))
    assert root.reasoning_closed


def test_logprobs_that_were_not_requested_are_nan() -> None:
    _, root = tree_with_root(4, 4)
    assert all(math.isnan(logprob) for logprob in root.path_logprobs())


def test_an_answer_shorter_than_requested_ends_the_segment() -> None:
    tree = TokenTree([9], max_new_tokens=10)
    root = tree.open_root()
    tree.append(root, generation(4, 4), num_asked=5)
    assert root.finish_reason == "length"


def test_a_given_prefix_belongs_to_the_path_and_costs_nothing() -> None:
    tree = TokenTree([9], max_new_tokens=10)
    segment = tree.branch_given([4, 4], point(2, 5, 6, 5), 1)
    append(tree, segment, generation(7, 7))
    assert segment.path() == [4, 4, 6, 7, 7]
    counts = tree.counts([segment])
    assert (counts.unique, counts.forced, counts.generated, counts.discarded) == (3, 1, 2, 0)


def reported(steps: Any, *token_ids: Any, finish_reason: Any = None) -> Any:
    """A stream so far, with the gate's reports of some steps."""
    top = TopLogprobs(
        token_ids=np.tile(np.array([[2, 3]], np.int32), (len(steps), 1)),
        logprobs=np.log(np.full((len(steps), 2), 0.5, np.float32)),
        temperature=1.0,
    )
    return Generation(token_ids, finish_reason, 1, 0, top=top, reported=steps)


def test_a_segment_grows_with_a_stream_and_is_counted_at_its_end() -> None:
    tree = TokenTree([9], max_new_tokens=10, policy=everywhere)
    root = tree.open_root()
    for part in (reported((1,), 2, 2), reported((1, 2), 2, 2, 3, 2)):
        tree.append(root, part, 10, 0)
        assert root.finish_reason is None
        assert tree.spent.generated == 0
    tree.append(root, reported((1, 2), 2, 2, 3, 2, 0, finish_reason="stop"), 10, 0)
    assert root.token_ids.tolist() == [2, 2, 3, 2, 0]
    assert [p.position for p in root.branch_points] == [1, 2]
    assert [p.sampled for p in root.branch_points] == [2, 3]
    assert [math.isnan(entropy) for entropy in root.entropies] == [True, False, False, True, True]
    assert root.finish_reason == "stop"
    assert (tree.spent.generated, tree.spent.requests) == (5, 1)


def test_a_step_that_is_reported_late_or_twice_counts_once() -> None:
    tree = TokenTree([9], max_new_tokens=10, policy=everywhere)
    root = tree.open_root()
    tree.append(root, reported((), 2, 2, 2), 10, 0)
    tree.append(root, reported((1, 1), 2, 2, 2, 2), 10, 0)
    assert [p.position for p in root.branch_points] == [1]


def test_reports_after_the_reasoning_are_ignored() -> None:
    tree = TokenTree([9], max_new_tokens=10, policy=everywhere, reasoning_end=[7])
    root = tree.open_root()
    tree.append(root, reported((0, 2), 2, 7, 2), 10, 0)
    assert [p.position for p in root.branch_points] == [0]
