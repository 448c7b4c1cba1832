"""A table of text, for a terminal or for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from runmem.table import TableColumn, numbered_lines, printable

__all__ = ["Grid"]

_KEYS = {"Run", "Start", "Method", "Watched by", "Variable"}  # columns that identify a row
_NAMES = {"Run", "Variable"}
_SENTENCES = {"Note", "What it measures", "Verdict", ""}


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes
    ----------
    title : str
    headers : sequence of str
    rows : sequence of sequence of str
    right : set of str
        Headers of the right-aligned columns.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: AbstractSet[str] = field(default_factory=frozenset)

    def lines(self, width: int | None) -> list[tuple[str, str]]:
        """Return the lines of the table, starting with its title, each with a style of rich (empty for none)."""
        columns = [
            TableColumn(header, header in self.right, flexible=header in _NAMES, text=header in _SENTENCES)
            for header in self.headers
        ]
        keys = max((number for number, header in enumerate(self.headers, 1) if header in _KEYS), default=1)
        found = [(printable(self.title), "bold")]
        for row, line in numbered_lines(columns, self.rows, width, keys):
            is_trusted = row is not None and self.rows[row][-1].startswith("trusted")
            found.append((line, "bold" if row is None else "green" if is_trusted else ""))
        return found

    def to_markdown(self) -> str:
        """Return the table in Markdown, with its title as a heading."""
        rules = ["---:" if header in self.right else "---" for header in self.headers]
        lines = [self.headers, rules, *self.rows]
        text = "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)
        return f"## {self.title}\n\n{text}\n"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
