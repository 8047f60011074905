"""The wording of chains: plain, or with redundant choices.

A wordy chain has the attempts, results and verdicts of a plain chain. Between its decisions it has
the redundancy of natural language: any of a few words, operands and lists in any order. These
choices are uniform, so their entropy is that of a decision between as many good options, and
entropy alone cannot separate them. The numbers of options are small for that reason: entropies of
decisions are also between ln 2 and ln 4.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields

__all__ = ["PLAIN", "STYLES", "WORDY", "Style"]

COMMUTATIVE = "+*"


@dataclass(frozen=True)
class Style:
    """The options for the variable parts of a chain, from which a uniform draw is made.

    Attributes:
        characters: of the vocabulary, a token per character.
        first_openers: before the first step of an attempt.
        openers: before its other steps.
        equals: between a step and its result.
        linkers: between a result and the remaining values.
        right: the verdict on an attempt that reaches the target.
        wrong: the verdict on any other attempt.
        reorders: whether operands of + and *, and the remaining values, are in random order.
    """

    characters: str
    first_openers: tuple[str, ...] = ("",)
    openers: tuple[str, ...] = ("",)
    equals: tuple[str, ...] = ("=",)
    linkers: tuple[str, ...] = (";",)
    right: tuple[str, ...] = (" ok",)
    wrong: tuple[str, ...] = (" no",)
    reorders: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """Options longer than a character; a token per word makes their choice a single step."""
        lists = [getattr(self, field.name) for field in fields(self) if field.name != "characters"]
        choices = [options for options in lists if isinstance(options, tuple) and len(options) > 1]
        return tuple(word for options in choices for word in options if len(word) > 1)

    def pick(self, rng: random.Random, options: Sequence[str]) -> str:
        """A random option; a single option uses no random number."""
        return rng.choice(options) if len(options) > 1 else options[0]

    def order_operands(
        self, rng: random.Random, left: int, operator: str, right: int
    ) -> tuple[int, int]:
        """The operands in writing order: swapped half the time where that changes nothing."""
        if self.reorders and operator in COMMUTATIVE and rng.random() < 0.5:
            return right, left
        return left, right

    def order_values(self, rng: random.Random, values: Sequence[int]) -> list[int]:
        return rng.sample(values, len(values)) if self.reorders else list(values)


PLAIN = Style(characters="0123456789+-*/()=:;~ \nmakefromno")
WORDY = Style(
    characters="0123456789+-*/()=:;~ \nmakefro",
    first_openers=("try ", "let ", "say ", "take "),
    openers=("then ", "next ", "so "),
    equals=("=", " is "),
    linkers=(";", " left "),
    right=(" ok", " yes", " good"),
    wrong=(" no", " off", " bad"),
    reorders=True,
)
STYLES = {"plain": PLAIN, "wordy": WORDY}
