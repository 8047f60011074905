"""The reports of a batch's rows, and the tokens that its step draws for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from eager_sgl.plugin.reports import Report
from eager_sgl.plugin.vocabulary import StepNeeds

__all__ = ["Rows", "attach"]

_ATTRIBUTE = "eager_report"


def attach(request: Any, report: Report) -> None:
    """Make it the report of one of SGLang's requests, found at every step of its batches."""
    setattr(request, _ATTRIBUTE, report)


class Rows(NamedTuple):
    """The rows of a batch, when its step begins.

    Attributes:
        reports: [rows], None for a request that needs nothing of the step.
        prompt_lengths: [rows]; SGLang may shorten a prompt before the first step of its request.
        num_known: [rows], numbers of tokens in `output_ids`; under the overlap schedule one fewer
            than have been drawn.
    """

    reports: list[Report | None]
    prompt_lengths: list[int]
    num_known: list[int]

    @classmethod
    def of(cls, requests: Sequence[Any]) -> Rows | None:
        """The rows of SGLang's requests; None if none of them needs anything of the step."""
        attached = (getattr(request, _ATTRIBUTE, None) for request in requests)
        reports = [report if report and report.needs else None for report in attached]
        if not any(reports):
            return None
        prompt_lengths = [len(request.origin_input_ids) for request in requests]
        return cls(reports, prompt_lengths, [len(request.output_ids) for request in requests])

    @property
    def needs(self) -> list[StepNeeds | None]:
        """What the rows need of the step; None for nothing."""
        return [None if report is None else report.needs for report in self.reports]

    def observed(
        self, needs: Sequence[StepNeeds | None], lengths: Sequence[int]
    ) -> list[tuple[Report, int]]:
        """The reports of the rows that are read, and the indices of the tokens that are drawn.

        An index is −1 where the token is known already: SGLang computes the start of a long
        context, of a prompt or of a retracted request, and discards what it draws there.

        Args:
            needs: of the rows.
            lengths: of the rows' sequences before the token.
        """
        columns = zip(
            self.reports, needs, lengths, self.prompt_lengths, self.num_known, strict=True
        )
        return [
            (report, index if (index := length - prompt_length) >= num_known else -1)
            for report, of_row, length, prompt_length, num_known in columns
            if report is not None and of_row is not None and of_row.is_read
        ]
