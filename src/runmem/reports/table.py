"""Tables of plain text: columns that line up, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Column", "lay_out", "printable"]

_GAP = "  "
_LEAST_WIDTH = 6


@dataclass(frozen=True)
class Column:
    """A column: its title, whether it is aligned to the right, and whether it may be shortened to fit a terminal."""

    title: str
    right: bool = False
    flexible: bool = False


def printable(text: str) -> str:
    """Return `text` without characters that would move the cursor or change the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Return the lines of a table, the titles first.

    Parameters
    ----------
    width : int or None
        Characters that a line may have, None for as many as it takes. Flexible columns are shortened, the widest first,
        though never below six characters: a line may still be longer than `width` then.
    """
    cells = [[column.title for column in columns], *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if width is not None:
        _narrow(columns, widths, width)
    return [
        _GAP.join(
            cell.rjust(size) if column.right else _shortened(cell, size).ljust(size)
            for column, cell, size in zip(columns, line, widths, strict=True)
        ).rstrip()
        for line in cells
    ]


def _narrow(columns: Sequence[Column], widths: list[int], width: int) -> None:
    """Take from the widest flexible column until the line fits or none can give more."""
    while sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        giving = [i for i, column in enumerate(columns) if column.flexible and widths[i] > _LEAST_WIDTH]
        if not giving:
            return
        widths[max(giving, key=lambda i: widths[i])] -= 1


def _shortened(text: str, size: int) -> str:
    """Cut out the middle: names of one program often differ at their ends."""
    if len(text) <= size:
        return text
    head = (size - 2) // 2
    return f"{text[:head]}..{text[len(text) - (size - 2 - head) :]}"
