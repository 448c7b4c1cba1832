"""Tables of plain text that fit the width that there is: all of them are laid out here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TextIO

__all__ = ["TableColumn", "fits", "lay_out", "numbered_lines", "printable", "terminal_width"]

_GAP = "  "
_LEAST_NAME = 12
_LEAST_TEXT = 24


@dataclass(frozen=True)
class TableColumn:
    """A column.

    Attributes
    ----------
    title : str
    right : bool
        Whether it is aligned to the right, as numbers are.
    flexible : bool
        Whether it may be shortened to fit: names.
    text : bool
        Whether it may be broken into several lines to fit: sentences.
    """

    title: str
    right: bool = False
    flexible: bool = False
    text: bool = False


def printable(text: str) -> str:
    """Return `text` without characters that would move the cursor or change the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Return the characters that a line of `stream` (default standard output) has; None where it is no terminal."""
    stream = sys.stdout if stream is None else stream
    return shutil.get_terminal_size().columns if stream is not None and stream.isatty() else None


def lay_out(
    columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], width: int | None = None, keys: int = 1
) -> list[str]:
    """Return the lines of a table, the titles first.

    Parameters
    ----------
    width : int or None
        Characters that a line may have, None for as many as it takes. Names are shortened and sentences broken to fit;
        where that is not enough, the table continues below itself with its other columns. Nothing is left out, and
        numbers stay whole, though a line may be longer than `width` then.
    keys : int
        How many columns say what a row is about: they stand in each part of a table.
    """
    return [line for _, line in numbered_lines(columns, rows, width, keys)]


def numbered_lines(
    columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], width: int | None = None, keys: int = 1
) -> list[tuple[int | None, str]]:
    """Return the lines of `lay_out`, each with the number of the row that it is of; None for titles."""
    cells = [[column.title for column in columns], *([printable(cell) for cell in row] for row in rows)]
    natural = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if width is None:
        return _part(columns, cells, natural)
    found = []
    for part in _parts(columns, natural, width, keys):
        sizes = _narrowed([columns[at] for at in part], [natural[at] for at in part], width)
        found += _part([columns[at] for at in part], [[line[at] for at in part] for line in cells], sizes)
    return found


def fits(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], width: int | None) -> bool:
    """Tell whether a table has room in `width` without being taken apart."""
    natural = [max(map(len, (column.title, *cells))) for column, *cells in zip(columns, *rows, strict=True)]
    return width is None or len(_parts(columns, natural, width, 1)) == 1


def _parts(columns: Sequence[TableColumn], natural: Sequence[int], width: int, keys: int) -> list[list[int]]:
    """Return the numbers of the columns that stand beside each other, for each part of the table."""
    least = [_least(column, size) for column, size in zip(columns, natural, strict=True)]
    key = list(range(keys))
    parts, room = [[*key]], width - sum(least[:keys]) - len(_GAP) * (keys - 1)
    left = room
    for at in range(keys, len(columns)):
        needed = len(_GAP) + least[at]
        if needed > left and len(parts[-1]) > keys:
            parts.append([*key])
            left = room
        parts[-1].append(at)
        left -= needed
    return parts


def _least(column: TableColumn, natural: int) -> int:
    if column.text:
        return min(natural, max(_LEAST_TEXT, len(column.title)))
    return min(natural, max(_LEAST_NAME, len(column.title))) if column.flexible else natural


def _narrowed(columns: Sequence[TableColumn], natural: Sequence[int], width: int) -> list[int]:
    """Take from the widest column that can give until the line fits, or none can give more."""
    sizes = list(natural)
    while sum(sizes) + len(_GAP) * (len(sizes) - 1) > width:
        giving = [at for at, column in enumerate(columns) if sizes[at] > _least(column, natural[at])]
        if not giving:
            break
        sizes[max(giving, key=lambda at: sizes[at])] -= 1
    return sizes


def _part(
    columns: Sequence[TableColumn], cells: Sequence[Sequence[str]], sizes: Sequence[int]
) -> list[tuple[int | None, str]]:
    found: list[tuple[int | None, str]] = []
    for number, line in enumerate(cells):
        broken = [
            (wrap(cell, size) or [""]) if column.text and len(cell) > size else [_shortened(cell, size)]
            for column, cell, size in zip(columns, line, sizes, strict=True)
        ]
        for level in range(max(map(len, broken), default=0)):
            texts = [parts[level] if level < len(parts) else "" for parts in broken]
            joined = _GAP.join(
                text.rjust(size) if column.right else text.ljust(size)
                for column, text, size in zip(columns, texts, sizes, strict=True)
            )
            found.append((number - 1 if number else None, joined.rstrip()))
    return found


def _shortened(text: str, size: int) -> str:
    """Cut out the middle: names of one program often differ at their ends."""
    if len(text) <= size:
        return text
    head = (size - 2) // 2
    return f"{text[:head]}..{text[len(text) - (size - 2 - head) :]}"
