"""The replay on trees made by hand."""

from __future__ import annotations

from typing import Any

from eager_sgl import BranchPoint
from eager_sgl.core import Generation
from eager_sgl.schedule import OnlineSchedule
from eager_sgl.tree import TokenTree


def test_a_branch_ahead_is_undone_when_the_slot_is_taken_behind_it() -> None:
    """The root has run ahead and taken the last slot; its first child may claim it before that."""

    def point(position: int) -> Any:
        return BranchPoint(position, 1.0, (2, 3), (0.5, 0.5), (-0.7, -0.7), sampled=2)

    tree = TokenTree((9,), max_new_tokens=20)
    root = tree.open_root()
    tree.append(root, Generation((2,) * 12, "length", 1, 0), 12)
    root.branch_points += [point(0), point(10)]
    decision = OnlineSchedule(3, 1000, 0.5).replay(tree)
    assert len(decision.leaves) == 3
    assert [(m.segment.end, m.max_reports) for m in decision.monitored] == [(1, 1)]
