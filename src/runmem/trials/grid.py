"""A table of text, for a terminal or for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Grid"]


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes
    ----------
    title : str
    headers : sequence of str
    rows : sequence of sequence of str
    right : set of str
        Headers of the columns that are aligned to the right.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: AbstractSet[str] = field(default_factory=frozenset)

    def to_rich(self) -> Table:
        """Return the table for a terminal."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(self.title), title_justify="left", box=None, title_style="bold", pad_edge=False)
        for header in self.headers:
            table.add_column(header, justify="right" if header in self.right else "left", overflow="fold",
                             no_wrap=header in self.right)  # fmt: skip
        for row in self.rows:
            style = "green" if row[-1].startswith("trusted") else None
            table.add_row(*(escape("".join(c if c.isprintable() else "?" for c in cell)) for cell in row), style=style)
        return table

    def to_markdown(self) -> str:
        """Return the table in Markdown, with its title as a heading."""
        rules = ["---:" if header in self.right else "---" for header in self.headers]
        lines = [self.headers, rules, *self.rows]
        text = "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)
        return f"## {self.title}\n\n{text}\n"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
