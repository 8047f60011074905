"""Watch the sequences of a prompt grow, branch and finish on a terminal.

.venv/bin/python programs/streaming.py "make 94 from 61 07 13 29"
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from eager_sgl import Client, EagerConfig, EagerInit, PromptResult, SamplingConfig
from eager_sgl.generate import events as e
from programs._demo import command, messages

__all__ = ["Screen", "watch"]


def watch(events: Iterable[e.Event], draw: Callable[[Sequence[str]], None]) -> PromptResult:
    """Draw a line per sequence and a line with the cost whenever they change.

    Args:
        events: of `Client.stream`; complete.
        draw: shows lines in place of the lines of the call before.
    """
    texts: dict[int, str] = {}
    finished: set[int] = set()
    for event in events:
        match event:
            case e.SequenceOpened(sequence, parent, _, num_characters):
                texts[sequence] = "" if parent is None else texts[parent][:num_characters]
            case e.TokensAppended(sequence, _, _, text):
                texts[sequence] += text
            case e.TokensWithdrawn(sequence, _, num_characters):
                texts[sequence] = texts[sequence][:num_characters]
                finished.discard(sequence)
            case e.SequenceWithdrawn(sequence):
                del texts[sequence]
            case e.SequenceFinished(sequence):
                finished.add(sequence)
            case e.CostChanged(counts, num_running):
                lines = [f"{'■' if i in finished else '…'} {texts[i]}" for i in sorted(texts)]
                draw([*lines, f"{counts.generated} tokens, {num_running} sequences running"])
            case e.Completed(result):
                return result
    raise ValueError("the events end before the prompt has completed")


class Screen:
    """The last lines of a terminal, drawn in place; of long lines the mark and the end."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._height = out, 0

    def draw(self, lines: Sequence[str]) -> None:
        columns, rows = shutil.get_terminal_size()
        lines = [line.replace("\n", " | ") for line in lines[-rows + 1 :]]
        shown = [line if len(line) < columns else line[:2] + line[3 - columns :] for line in lines]
        back = f"\x1b[{self._height}F\x1b[J" if self._height else ""
        self._out.write(back + "".join(f"{line}\n" for line in shown))
        self._out.flush()
        self._height = len(shown)


def main() -> None:
    with (
        command(__doc__, "make 94 from 61 07 13 29") as (url, api_key, questions),
        Client(url, api_key=api_key) as client,
    ):
        config = EagerConfig(threshold=0.7, sampling=SamplingConfig(max_new_tokens=256))
        for question in questions:
            with client.stream(messages(question), EagerInit(config), interval=2) as stream:
                watch(stream, Screen(sys.stdout).draw)


if __name__ == "__main__":
    main()
