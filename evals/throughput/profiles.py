"""What `evals/bench.py` times by default: the only table of its settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["DEFAULT", "LARGE_VOCABULARY", "MODES", "PROFILES", "Profile", "Size"]

Size = tuple[int, int]
"""Prompts at once, and M."""

MODES = {"natural": 0.7, "eager": 0.05, "monitored": 2.99}
"""θ of EAGer-init in nats, by name."""


@dataclass(frozen=True)
class Profile:
    """Each field is the default of the option of its name.

    Attributes:
        shapes: of EAGer-init.
        search_shapes: of the searches.
        modes: names of `MODES`, or θ in nats.
        monitors, search_monitors: names of monitors, of EAGer-init and of the searches.
        chunks: sizes for the monitor "chunk".
        searches: names of methods.
        widths: of best-first; none for that of `SearchConfig`.
        repeats: passes.
        rounds: prompts in all, per prompt at once.
        top_p: nucleus mass of all sampling.
        minutes: after which no pass begins but the first of each shape; None for no limit.
        vocabulary: size of that of a model that is made for the purpose; None for another model.
    """

    shapes: tuple[Size, ...] = ((8, 8), (32, 8), (1, 32))
    search_shapes: tuple[Size, ...] = ((32, 32),)
    modes: tuple[str, ...] = ("natural",)
    monitors: tuple[str, ...] = ("gate", "chunk")
    chunks: tuple[int, ...] = (32,)
    searches: tuple[str, ...] = ("trie_parallel", "best_first")
    widths: tuple[int, ...] = ()
    search_monitors: tuple[str, ...] = ("gate", "chunk")
    repeats: int = 5
    rounds: float = 1
    max_new_tokens: int = 256
    top_p: float = 0.95
    minutes: float | None = None
    vocabulary: int | None = None


DEFAULT = Profile()
_SMALL = replace(DEFAULT, shapes=((8, 8),), search_shapes=((8, 8),))
LARGE_VOCABULARY = "vocabulary"
PROFILES: dict[str, Profile] = {
    "standard": DEFAULT,
    "quick": replace(_SMALL, shapes=((1, 32), (8, 8)), repeats=2),
    # Without top-p, for which a CPU would sort 152,000 probabilities a token: most of a step.
    LARGE_VOCABULARY: replace(_SMALL, max_new_tokens=64, top_p=1.0, vocabulary=152_000),
    # With the start of the server, under eight minutes.
    "accelerator": replace(DEFAULT, search_shapes=((16, 16),), minutes=6.5),
}
