"""docs/results.md has every field of the files of a run."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from typing import Any

import pytest

from tests.pages import page

IN_RESULTS = (
    "eager_sgl.core:BranchPoint",
    "eager_sgl.core:DeferredBranch",
    "eager_sgl.core:TokenCounts",
    "eager_sgl.adaptive_threshold:EntropyHistogram",
    "evals.records.record:JudgedBy",
    "evals.records.record:PromptRecord",
    "evals.records.record:SequenceRecord",
    "evals.records.record:StageTwo",
)
IN_FAILURES = ("evals.records.failures:Failure",)
IN_CONFIG = (
    "evals.records.header:RunHeader",
    "evals.records.header:StoredConfig",
    "evals.records.header:EagerFields",
    "evals.records.header:SamplingFields",
    "evals.records.header:SearchFields",
    "evals.records.plan:Plan",
)
IN_SUMMARY = (
    "evals.report.summary:Summary",
    "evals.report.paper:PaperRow",
    "evals.report.rows:InexactSamples",
    "evals.report.rows:StageTwoTotals",
    "evals.analysis.adaptive_threshold:AdaptiveTheta",
    "evals.analysis.judged:JudgedCounts",
    "evals.analysis.second_stages:StageTwoContrast",
)
NOT_WRITTEN = {"cell", "header"}
"""A cell is written as the fields that it has, and a header among those of the summary."""


@pytest.mark.parametrize("name", [*IN_RESULTS, *IN_FAILURES, *IN_CONFIG, *IN_SUMMARY])
def test_every_field_of_a_class_is_documented(name: str) -> None:
    assert not undocumented({field.name for field in fields(named(name))} - NOT_WRITTEN)


@pytest.mark.parametrize("name", ["ROW_COLUMNS", "LEVEL_COLUMNS"])
def test_every_column_of_the_summary_is_documented(name: str) -> None:
    columns = named(f"evals.report.columns:{name}")
    assert not undocumented({column.key for column in columns if column.key})


def named(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def undocumented(names: set[str]) -> set[str]:
    text = page("docs/results.md").text
    return {name for name in names if f"`{name}`" not in text}
