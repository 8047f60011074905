"""What a run consists of: the cells of its sweep, and in which groups they are run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, Self

__all__ = [
    "AUTO",
    "BEST_FIRST",
    "INDEPENDENT",
    "NESTED",
    "PARALLEL",
    "RESTART",
    "RESUME",
    "SEARCHES",
    "STAGE_ONE",
    "SWEPT",
    "SWOR",
    "TRIE_PARALLEL",
    "Cell",
    "Group",
    "Plan",
    "method_name",
]

PARALLEL, STAGE_ONE = "parallel", "eager_init"
BEST_FIRST, SWOR, TRIE_PARALLEL = "best_first", "swor", "trie_parallel"
SEARCHES = (BEST_FIRST, SWOR, TRIE_PARALLEL)
INDEPENDENT = (PARALLEL, TRIE_PARALLEL)
"""Methods whose sequences are independent draws of one distribution."""
NESTED = (PARALLEL, *SEARCHES)
"""Methods whose smaller M are part of a larger one, so that they are run once and have no θ."""
AUTO = "auto"
RESTART, RESUME = "restart", "resume"
SWEPT = ("methods", "max_sequences", "thresholds", "temperatures", "seeds", "stage_twos")


class Cell(NamedTuple):
    """One method with one value of everything that a sweep varies; a key.

    Attributes:
        threshold: θ; None for a method without, and for EAGer-init at a adaptive quantile.
        stage_two: "restart" or "resume", how extra sequences begin; None for a method without.
    """

    method: str
    max_sequences: int
    threshold: float | None
    temperature: float
    seed: int
    stage_two: str | None = None

    @property
    def is_adaptive(self) -> bool:
        """Whether θ is the adaptive quantile of what the model shows."""
        return self.method == STAGE_ONE and self.threshold is None

    @property
    def theta(self) -> str:
        """θ as tables and plots show it; empty for a method without."""
        if self.is_adaptive:
            return AUTO
        return "" if self.threshold is None else f"{self.threshold:g}"

    @property
    def name(self) -> str:
        """See `method_name`."""
        return method_name(self.method, self.stage_two)


def method_name(method: str, stage_two: str | None) -> str:
    """A method as tables and plots call it: `eager`, and `eager+resume` where it resumes."""
    return f"{method}+{RESUME}" if stage_two == RESUME else method


@dataclass(frozen=True)
class Group:
    """Cells that are run together.

    Attributes:
        first: generates from the prompts.
        followers: methods of two stages whose stage one is `first`.
    """

    first: Cell
    followers: tuple[Cell, ...] = ()

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All of them."""
        return (self.first, *self.followers)


@dataclass(frozen=True)
class Plan:
    """All that a run is to bring.

    Attributes:
        methods: names, as asked for.
        max_sequences: values of M.
        thresholds: values of θ; None is the adaptive quantile.
        temperatures: values of τ.
        seeds: the repeats; each is a draw of its own over the same prompts.
        stage_twos: how extra sequences begin, one or both of "restart" and "resume".
        parallel_sequences: per prompt that Full Parallel is run with, the largest M or more.
        num_prompts: of every cell.
        can_vote: whether a majority of answers means something.
        control_temperatures: other values of τ, at which Full Parallel alone is run.
    """

    methods: tuple[str, ...]
    max_sequences: tuple[int, ...]
    thresholds: tuple[float | None, ...]
    temperatures: tuple[float, ...]
    seeds: tuple[int, ...]
    stage_twos: tuple[str, ...]
    parallel_sequences: int
    num_prompts: int
    can_vote: bool
    control_temperatures: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.parallel_sequences < max(self.max_sequences):
            raise ValueError(
                f"parallel_sequences is {self.parallel_sequences}; it must be at least the largest "
                f"M, {max(self.max_sequences)}"
            )
        if self.control_temperatures and PARALLEL not in self.methods:
            raise ValueError(f"control_temperatures are of {PARALLEL}; add it to --methods")
        if both := set(self.control_temperatures) & set(self.temperatures):
            raise ValueError(
                f"control_temperatures has {min(both):g}, at which all methods are run already"
            )

    @property
    def every_temperature(self) -> tuple[float, ...]:
        """Those of the methods, and those of Full Parallel alone."""
        return (*self.temperatures, *self.control_temperatures)

    @property
    def groups(self) -> tuple[Group, ...]:
        """In the order in which they are run.

        Full Parallel has no θ, and is run once, with `parallel_sequences`: its smaller M are
        estimated from that. So are the searches, with the largest M. EAGer-init is part of a run
        wherever a method of two stages is.
        """
        return tuple(
            group
            for seed, temperature in product(self.seeds, self.every_temperature)
            for group in self._groups(temperature, seed)
        )

    def _groups(self, temperature: float, seed: int) -> Iterator[Group]:
        if PARALLEL in self.methods:
            yield Group(Cell(PARALLEL, self.parallel_sequences, None, temperature, seed))
        if temperature in self.control_temperatures:
            return
        for name in SEARCHES:
            if name in self.methods:
                yield Group(Cell(name, max(self.max_sequences), None, temperature, seed))
        followers = [name for name in self.methods if name not in (*NESTED, STAGE_ONE)]
        if not followers and STAGE_ONE not in self.methods:
            return
        for place in product(self.max_sequences, self.thresholds):
            others = (
                Cell(name, *place, temperature, seed, stage_two)
                for name, stage_two in product(followers, self.stage_twos)
            )
            yield Group(Cell(STAGE_ONE, *place, temperature, seed), tuple(others))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """In the order of the groups."""
        return tuple(cell for group in self.groups for cell in group.cells)

    def missing(self, cells: Iterable[Cell]) -> dict[Cell, int]:
        """Prompts that are still to come, where there are any.

        Args:
            cells: one for every result that there is.
        """
        missing = dict.fromkeys(self.cells, self.num_prompts)
        for cell in cells:
            missing[cell] -= 1
        return {cell: number for cell, number in missing.items() if number}

    def label(self, cell: Cell) -> str:
        """The method, and the values of what varies in this run."""
        swept = {
            "M": (self.max_sequences, cell.max_sequences),
            "θ": (self.thresholds, cell.theta or None),
            "τ": (self.every_temperature, cell.temperature),
            "seed": (self.seeds, cell.seed),
        }
        parts = [
            f"{name} {value}"
            for name, (values, value) in swept.items()
            if len(values) > 1 and value is not None
        ]
        return " ".join([cell.name, *parts])

    @classmethod
    def from_config(cls, config: dict[str, Any], *, can_vote: bool) -> Self:
        """From what `config.json` says under `config`."""
        swept: dict[str, Any] = {name: tuple(config[name]) for name in SWEPT}
        numbers = {name: config[name] for name in ("parallel_sequences", "num_prompts")}
        controls = tuple(config.get("control_temperatures", ()))
        return cls(**swept, **numbers, can_vote=can_vote, control_temperatures=controls)
