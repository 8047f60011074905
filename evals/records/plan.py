"""The cells of a run's sweep, and the groups in which they are run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated, NamedTuple, TypeVar

from msgspec import Meta

__all__ = [
    "ADAPTIVE_CONSISTENCY",
    "AUTO",
    "BEST_FIRST",
    "DEEPCONF_HIGH",
    "DEEPCONF_LOW",
    "EARLY_EXIT",
    "INDEPENDENT",
    "NESTED",
    "PARALLEL",
    "RESTART",
    "RESUME",
    "SEARCHES",
    "STAGE_ONE",
    "STOPPABLE",
    "SWOR",
    "TRIE_PARALLEL",
    "VOTE",
    "VOTES",
    "Cell",
    "Entry",
    "Group",
    "Key",
    "Plan",
]

PARALLEL, STAGE_ONE = "parallel", "eager_init"
BEST_FIRST, SWOR, TRIE_PARALLEL, VOTE = "best_first", "swor", "trie_parallel", "vote"
ADAPTIVE_CONSISTENCY, EARLY_EXIT = "adaptive_consistency", "early_exit"
DEEPCONF_LOW, DEEPCONF_HIGH = "deepconf_low", "deepconf_high"
VOTES = (VOTE, ADAPTIVE_CONSISTENCY, DEEPCONF_LOW, DEEPCONF_HIGH, EARLY_EXIT)
"""One answer by a vote: ours, and the rules of others, which share no prefixes."""
SEARCHES = (BEST_FIRST, SWOR, TRIE_PARALLEL, *VOTES)
STOPPABLE = (BEST_FIRST, SWOR, TRIE_PARALLEL)
"""Searches that a stop rule ends, and that share tokens; a vote ends by its own rule."""
INDEPENDENT = (PARALLEL, TRIE_PARALLEL)
"""Methods whose sequences are independent draws of one distribution."""
NESTED = (PARALLEL, *SEARCHES)
"""Methods whose smaller M are part of a larger one, so that they are run once and have no θ."""
AUTO = "auto"
RESTART, RESUME = "restart", "resume"

T = TypeVar("T")
Swept = Annotated[tuple[T, ...], Meta(min_length=1)]
"""At least one value."""


class Cell(NamedTuple):
    """One method at one value of every swept setting; a key.

    Attributes:
        threshold: θ; None for a method without, and for EAGer-init at an adaptive quantile.
        stage_two: where extra sequences begin, "restart" or "resume"; None for a method of one
            stage.
    """

    method: str
    max_sequences: int
    threshold: float | None
    temperature: float
    seed: int
    stage_two: str | None = None

    @property
    def is_adaptive(self) -> bool:
        """Whether θ is a quantile of the model's entropies so far."""
        return self.method == STAGE_ONE and self.threshold is None

    @property
    def theta(self) -> str:
        """θ in tables and plots; empty for a method without."""
        if self.is_adaptive:
            return AUTO
        return "" if self.threshold is None else f"{self.threshold:g}"

    @property
    def name(self) -> str:
        """The method in tables and plots: `eager`, and `eager+resume` where it resumes."""
        return f"{self.method}+{RESUME}" if self.stage_two == RESUME else self.method

    def label(self, names: Iterable[str] = "Mθτ") -> str:
        """The method and its setting: `eager_init M=8 θ=0.7 τ=0.6`."""
        return " ".join(filter(None, [self.name, self.setting(names)]))

    def setting(self, names: Iterable[str] = "Mθτ") -> str:
        """Those of M, θ, τ and seed that are named and that the method has: `M=8 θ=0.7 τ=0.6`."""
        values = {
            "M": str(self.max_sequences),
            "θ": self.theta,
            "τ": f"{self.temperature:g}",
            "seed": str(self.seed),
        }
        return " ".join(f"{name}={values[name]}" for name in names if values[name])

    @property
    def without_seed(self) -> Cell:
        """The cell that stands for all seeds of a setting."""
        return self._replace(seed=0)


Key = tuple[Cell, str]
"""A cell and a sample's id, which have at most one result."""


@dataclass(frozen=True, kw_only=True)
class Entry(ABC):
    """A line of a file about one prompt in one cell.

    Attributes:
        max_sequences: M, the cap of stage one.
        threshold: θ of stage one; None where the method does not branch, and at an adaptive θ.
        temperature: τ of sampling.
        seed: number of the repeat.
    """

    method: str
    max_sequences: int
    threshold: float | None
    temperature: float
    seed: int
    sample_id: str

    @property
    @abstractmethod
    def stage_two_mode(self) -> str | None:
        """`stage_two` of the cell."""

    @property
    def cell(self) -> Cell:
        """The cell of the sweep."""
        return Cell(
            self.method,
            self.max_sequences,
            self.threshold,
            self.temperature,
            self.seed,
            self.stage_two_mode,
        )

    @property
    def key(self) -> Key:
        """The key of the result."""
        return self.cell, self.sample_id


@dataclass(frozen=True)
class Group:
    """Cells that are run together.

    Attributes:
        first: the cell that starts from the prompts.
        followers: cells of methods of two stages whose stage one is `first`.
    """

    first: Cell
    followers: tuple[Cell, ...] = ()

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The first, then its followers."""
        return (self.first, *self.followers)


@dataclass(frozen=True)
class Plan:
    """Everything that a run generates.

    Attributes:
        methods: names, as on the command line.
        max_sequences: values of M.
        thresholds: values of θ; None is the adaptive quantile.
        temperatures: values of τ.
        seeds: numbers of the repeats, which are independent draws over the same prompts.
        stage_twos: where extra sequences begin, one or both of "restart" and "resume".
        parallel_sequences: sequences of Full Parallel per prompt, the largest M or more.
        num_prompts: prompts of a cell.
        can_vote: whether a majority of answers means something.
        control_temperatures: further values of τ, at which Full Parallel alone is run.
    """

    methods: Swept[str]
    max_sequences: Swept[int]
    thresholds: Swept[float | None]
    temperatures: Swept[float]
    seeds: Swept[int]
    stage_twos: Swept[str]
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
        """Those of all methods, then those of Full Parallel alone."""
        return (*self.temperatures, *self.control_temperatures)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups, in the order in which they are run.

        Full Parallel has no θ and is run once, with `parallel_sequences`; its smaller M are
        estimated from that. The searches are run once, too, with the largest M. EAGer-init is part
        of every run of a method of two stages.
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
        for limits in product(self.max_sequences, self.thresholds):
            second = (
                Cell(name, *limits, temperature, seed, stage_two)
                for name, stage_two in product(followers, self.stage_twos)
            )
            yield Group(Cell(STAGE_ONE, *limits, temperature, seed), tuple(second))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells, in the order of the groups."""
        return tuple(cell for group in self.groups for cell in group.cells)

    def missing(self, cells: Iterable[Cell]) -> dict[Cell, int]:
        """Number of results that are missing, by cell; without cells that lack none.

        Args:
            cells: the cell of every result so far.
        """
        missing = dict.fromkeys(self.cells, self.num_prompts)
        for cell in cells:
            missing[cell] -= 1
        return {cell: number for cell, number in missing.items() if number}

    def label(self, cell: Cell) -> str:
        """The method, and the values of what varies in this run."""
        swept = {
            "M": self.max_sequences,
            "θ": self.thresholds,
            "τ": self.every_temperature,
            "seed": self.seeds,
        }
        return cell.label(name for name, values in swept.items() if len(values) > 1)
