"""The form of the log."""

from __future__ import annotations

import logging

__all__ = ["LogFormatter"]

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}
_INDENT = "\n    "


class LogFormatter(logging.Formatter):
    """Every record begins a line, and its further lines are indented.

    Messages of SGLang servers and of operators' functions may repeat what a client has sent; so
    no such text can pass for a line of the access log, or control a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        return super().format(record).translate(_CONTROLS).replace("\n", _INDENT)
