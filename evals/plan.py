"""What a run consists of: the cells of its sweep, and in which groups they are run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, Self

__all__ = ["PARALLEL", "STAGE_ONE", "Cell", "Group", "Plan"]

PARALLEL, STAGE_ONE = "parallel", "eager_init"


class Cell(NamedTuple):
    """One method with one value of everything that a sweep varies; a key."""

    method: str
    max_sequences: int
    threshold: float | None
    temperature: float
    seed: int


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
        thresholds: values of θ.
        temperatures: values of τ.
        seeds: the repeats; each is a draw of its own over the same prompts.
        num_prompts: of every cell.
        can_vote: whether a majority of answers means something.
    """

    methods: tuple[str, ...]
    max_sequences: tuple[int, ...]
    thresholds: tuple[float, ...]
    temperatures: tuple[float, ...]
    seeds: tuple[int, ...]
    num_prompts: int
    can_vote: bool

    @property
    def groups(self) -> tuple[Group, ...]:
        """In the order in which they are run.

        Full Parallel has no θ, and is run at the largest M only: its smaller M are estimated from
        that. EAGer-init is part of a run wherever a method of two stages is.
        """
        return tuple(
            group
            for seed, temperature in product(self.seeds, self.temperatures)
            for group in self._groups(temperature, seed)
        )

    def _groups(self, temperature: float, seed: int) -> Iterator[Group]:
        if PARALLEL in self.methods:
            yield Group(Cell(PARALLEL, max(self.max_sequences), None, temperature, seed))
        followers = [name for name in self.methods if name not in (PARALLEL, STAGE_ONE)]
        if not followers and STAGE_ONE not in self.methods:
            return
        for place in product(self.max_sequences, self.thresholds):
            first, *others = (
                Cell(name, *place, temperature, seed) for name in (STAGE_ONE, *followers)
            )
            yield Group(first, tuple(others))

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
            "θ": (self.thresholds, cell.threshold),
            "τ": (self.temperatures, cell.temperature),
            "seed": (self.seeds, cell.seed),
        }
        parts = [
            f"{name} {value}"
            for name, (values, value) in swept.items()
            if len(values) > 1 and value is not None
        ]
        return " ".join([cell.method, *parts])

    @classmethod
    def from_config(cls, config: dict[str, Any], *, can_vote: bool) -> Self:
        """From what `config.json` says under `config`."""
        names = ("methods", "max_sequences", "thresholds", "temperatures", "seeds")
        swept = {name: tuple(config[name]) for name in names}
        return cls(**swept, num_prompts=config["num_prompts"], can_vote=can_vote)
