"""The progress of a cell at one moment, its line, and an estimate of the time left."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["STEADY_SECONDS", "Snapshot", "TimeLeft"]

STEADY_SECONDS = 30.0
"""After the first tokens, until the rate of tokens says how fast a run is: before, it is that of a
server that still reads prompts and warms up, at 5 token/s as well as at 5,000."""


@dataclass(frozen=True)
class TimeLeft:
    """An estimate of the time until the last prompt has finished.

    Attributes:
        is_bound: whether it assumes that every sequence runs to the length limit.
    """

    seconds: float
    is_bound: bool = False

    def __str__(self) -> str:
        """In two units at the most."""
        return f"{'at most ' if self.is_bound else ''}about {_duration(self.seconds)} left"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The progress of a cell.

    Attributes:
        label: the method, and the values that differ between cells.
        num_done: prompts that have finished, in earlier sessions too.
        num_failed: prompts that failed in this session.
        num_ran: of both, prompts that were run in this session.
        num_running: prompts that have begun and not finished.
        num_solved: finished prompts with a correct sequence; None if nothing was judged.
        num_alive: sequences still running.
        max_sequences: sequences that all unfinished prompts may generate, ended ones included;
            None before every second stage has a grant.
        max_length: length limit of a sequence in tokens.
        shared_tokens: tokens that the prompts share in this session; None if they share none.
        spent, reserved, free: sequences of the cell's budget.
        generated: tokens decoded in this session, by running prompts too.
        num_first_tokens: of these, in the first parts of sequences, whose seconds are not known.
        recent_rate: tokens decoded per second, over the last half minute.
        cached_share: of the prompt tokens sent so far, served by the radix tree; 0 before any.
        seconds: during which prompts ran.
        decoding_seconds: of these, since the first parts.
        prompt_seconds: of all prompts together, while they ran.
    """

    label: str
    num_done: int
    num_failed: int
    num_ran: int
    num_running: int
    num_prompts: int
    num_solved: int | None
    num_alive: int
    max_sequences: int | None
    max_length: int
    shared_tokens: int | None
    spent: int
    reserved: int
    free: int
    generated: int
    num_first_tokens: int
    recent_rate: float
    cached_share: float
    seconds: float
    decoding_seconds: float
    prompt_seconds: float

    @property
    def complete(self) -> bool:
        """Whether all prompts have finished or failed."""
        return self.num_left == 0

    @property
    def num_left(self) -> int:
        """Prompts that have neither finished nor failed."""
        return self.num_prompts - self.num_done - self.num_failed

    @property
    def average_rate(self) -> float:
        """Tokens decoded per second, as long as prompts ran."""
        return self.generated / self.seconds if self.seconds > 0 else 0.0

    @property
    def tokens_per_second(self) -> float:
        """The recent rate while prompts run, the average once all have ended."""
        return self.average_rate if self.complete else self.recent_rate

    @property
    def time_left(self) -> TimeLeft | None:
        """An estimate from what is known; None where grants are unknown.

        Shared tokens are a known total. Otherwise the estimate is from the prompts that have ended,
        and before that an upper bound. The total and the bound need a rate of tokens: they are None
        before `STEADY_SECONDS`.
        """
        if self.complete or self.max_sequences is None:
            return None
        if self.shared_tokens is not None:
            return self._until(self.shared_tokens)
        if self.num_ran:
            return self._at_pace_of_prompts()
        return self._until(self.max_sequences * self.max_length, is_bound=True)

    def _until(self, num_tokens: int, *, is_bound: bool = False) -> TimeLeft | None:
        """At the rate after the first parts, until so many have been generated in this session."""
        num_timed = self.generated - self.num_first_tokens
        if self.decoding_seconds < STEADY_SECONDS or num_timed <= 0:
            return None
        seconds = self.decoding_seconds * max(num_tokens - self.generated, 0) / num_timed
        return TimeLeft(seconds, is_bound)

    def _at_pace_of_prompts(self) -> TimeLeft:
        """All waiting prompts with as many at once as now, and then half of a prompt's time.

        A running prompt counts as half run, which it is on average: without that the pace would
        seem too low as long as most of the prompts are running.
        """
        mean_seconds = self.prompt_seconds / (self.num_ran + self.num_running / 2)
        num_waiting = self.num_left - self.num_running
        return TimeLeft(mean_seconds * (num_waiting / max(self.num_running, 1) + 0.5))

    @property
    def without_time(self) -> Snapshot:
        """The same with zero in the fields that change while nothing happens."""
        zero = replace(self, seconds=0.0, decoding_seconds=0.0, prompt_seconds=0.0)
        return replace(zero, recent_rate=0.0)

    def describe(self) -> str:
        """One line."""
        is_known = self.num_done and self.num_solved is not None
        pass_at_k = f"{(self.num_solved or 0) / self.num_done:.2f}" if is_known else "–"
        failed = f"{self.num_failed} failed, " if self.num_failed else ""
        left = f", {self.time_left}" if self.time_left else ""
        return (
            f"{self.label}: {self.num_done}/{self.num_prompts} prompts, {failed}"
            f"{self.num_running} running, Pass@k {pass_at_k}, {self.num_alive} sequences alive, "
            f"budget {self.spent} spent + {self.reserved} reserved + {self.free} free, "
            f"{self.tokens_per_second:,.0f} token/s, cache {self.cached_share:.1%}, "
            f"{self.seconds:.0f} s{left}"
        )


def _duration(seconds: float) -> str:
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 24 else f"{hours:,} h"
