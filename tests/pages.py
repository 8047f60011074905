"""The pages of the repository, taken apart: links, headings, blocks of code, commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["PAGES", "ROOT", "Block", "Page", "blocks_of", "page"]

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    "evals/reasoner/README.md",
]

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}[^\n]*\n)+")
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of code; `name` is that of the file its first line gives, if it does."""

    page: str
    number: int
    language: str
    text: str

    @property
    def name(self) -> str | None:
        match = re.match(r"# (\S+\.py)\n", self.text)
        return match[1] if match else None

    @property
    def needs_server(self) -> bool:
        return re.search(r"\b(EmbeddedRuntime|Client|AsyncClient|connect)\(", self.text) is not None

    @property
    def needs_endpoint(self) -> bool:
        return "localhost:8000" in self.text

    def __str__(self) -> str:
        return f"{self.page}, block {self.number}"


@dataclass(frozen=True)
class Page:
    """One page by its path from the root."""

    path: str
    text: str

    @property
    def blocks(self) -> list[Block]:
        fences = _FENCE.finditer(self.text)
        return [
            Block(self.path, number, match["language"], match["text"])
            for number, match in enumerate(fences, start=1)
        ]

    @property
    def prose(self) -> str:
        """The page without its fenced blocks."""
        return _FENCE.sub("", self.text)

    @property
    def links(self) -> list[str]:
        """Targets within the repository."""
        targets = _LINK.findall(_INLINE.sub("", self.prose))
        return [target for target in targets if "://" not in target]

    @property
    def anchors(self) -> set[str]:
        """Those that GitHub gives the headings."""
        return {_slug(heading) for heading in _HEADING.findall(self.prose)}

    @property
    def inline(self) -> list[str]:
        """Code within sentences."""
        return _INLINE.findall(self.prose)

    @property
    def commands(self) -> Iterator[str]:
        """Lines of code that are no Python, continued lines joined.

        Those of the endpoint's clients, whose options are theirs, run in
        `tests/integration/clients`.
        """
        blocks = [block for block in self.blocks if not block.needs_endpoint]
        code = [block.text for block in blocks if block.language != "python"]
        code += [match[0] for match in _INDENTED.finditer(self.prose)]
        for text in (*code, *self.inline):
            yield from text.replace("\\\n", " ").splitlines()


def _slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


@cache
def page(path: str) -> Page:
    return Page(path, (ROOT / path).read_text(encoding="utf-8"))


def blocks_of(language: str) -> list[Block]:
    """All blocks of a language."""
    return [block for path in PAGES for block in page(path).blocks if block.language == language]
