"""GPQA-Diamond as its authors publish it: gated, the right choice first, so shuffled here.

The order of the choices of a question follows from `CHOICE_SEED` and the question alone, and
`config.json` names the seed. The revision and the configuration are those of ai-dynamo/aiperf,
`gpqa-diamond`; the columns are those of lighteval 0.13.0, `lighteval/tasks/tasks/gpqa.py` (split
train), and "Record ID" of the dataset's csv.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from evals.tasks.choices import LETTERS, ChoiceBenchmark
from evals.tasks.hub import DatasetRow, Source
from evals.tasks.task import Sample

__all__ = ["TASK", "ShuffledChoices"]

CHOICE_SEED = 0
RIGHT = "Correct Answer"
WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


@dataclass(frozen=True, kw_only=True)
class ShuffledChoices(ChoiceBenchmark):
    """Questions whose choices are separate columns.

    Attributes:
        choice_seed: seed of the order of the choices.
    """

    choice_seed: int = CHOICE_SEED

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"choice_seed": self.choice_seed}

    def sample(self, row: DatasetRow) -> Sample:
        name = row.values["Record ID"]
        columns = [RIGHT, *WRONG]
        random.Random(f"{self.choice_seed}/{name}").shuffle(columns)
        choices = [
            f"{letter}. {row.values[column].strip()}"
            for letter, column in zip(LETTERS, columns, strict=True)
        ]
        question = "\n".join([row.values["Question"].strip(), "", *choices])
        return self.choice_sample(name, question, LETTERS[columns.index(RIGHT)])


TASK = ShuffledChoices(
    name="gpqa_diamond_original",
    source=Source(
        path="Idavidrein/gpqa",
        names=("gpqa_diamond",),
        split="train",
        revision="633f5ee89ab8ad4522a9f850766b73f62147ffdd",
        columns=("Record ID", "Question", RIGHT, *WRONG),
        gated=True,
    ),
)
