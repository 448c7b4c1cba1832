"""Lays out plain-text tables to the width of the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TextIO

__all__ = ["TableColumn", "fits", "lay_out", "numbered_lines", "printable", "terminal_width"]

_GAP = "  "
_MIN_NAME_WIDTH = 12
_MIN_TEXT_WIDTH = 24


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Attributes
    ----------
    title : str
    right : bool
        Whether to align it to the right, as numbers.
    flexible : bool
        Whether its cells may be shortened to fit: names.
    text : bool
        Whether its cells may be wrapped to fit: sentences.
    """

    title: str
    right: bool = False
    flexible: bool = False
    text: bool = False


def printable(text: str) -> str:
    """Return `text` with a ? for each character that would move the cursor or change the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Return the width of a terminal in characters, None if `stream` (default standard output) is not one."""
    stream = sys.stdout if stream is None else stream
    return shutil.get_terminal_size().columns if stream is not None and stream.isatty() else None


def lay_out(
    columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], width: int | None = None, keys: int = 1
) -> list[str]:
    """Return the lines of a table, the titles first.

    Parameters
    ----------
    width : int or None
        Maximum characters per line, None for no limit. Names are shortened and sentences wrapped to fit; if that is not
        enough, the remaining columns follow in a second table below. Numbers are never shortened, so a line may exceed
        `width`.
    keys : int
        Number of leading columns that identify a row, repeated in each part of a table.
    """
    return [line for _, line in numbered_lines(columns, rows, width, keys)]


def numbered_lines(
    columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], width: int | None = None, keys: int = 1
) -> list[tuple[int | None, str]]:
    """Return the lines of `lay_out`, each with the number of its row, None for titles."""
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
    """Return True if a table fits into `width` without being split."""
    natural = [max(map(len, (column.title, *cells))) for column, *cells in zip(columns, *rows, strict=True)]
    return width is None or len(_parts(columns, natural, width, 1)) == 1


def _parts(columns: Sequence[TableColumn], natural: Sequence[int], width: int, keys: int) -> list[list[int]]:
    """Split the columns into parts that fit `width`; return the column numbers of each part."""
    least = [_least(column, size) for column, size in zip(columns, natural, strict=True)]
    key = list(range(keys))
    parts, available = [[*key]], width - sum(least[:keys]) - len(_GAP) * (keys - 1)
    left = available
    for at in range(keys, len(columns)):
        needed = len(_GAP) + least[at]
        if needed > left and len(parts[-1]) > keys:
            parts.append([*key])
            left = available
        parts[-1].append(at)
        left -= needed
    return parts


def _least(column: TableColumn, natural: int) -> int:
    if column.text:
        return min(natural, max(_MIN_TEXT_WIDTH, len(column.title)))
    return min(natural, max(_MIN_NAME_WIDTH, len(column.title))) if column.flexible else natural


def _narrowed(columns: Sequence[TableColumn], natural: Sequence[int], width: int) -> list[int]:
    """Narrow the widest flexible column until the line fits or no column can shrink."""
    sizes = list(natural)
    while sum(sizes) + len(_GAP) * (len(sizes) - 1) > width:
        shrinkable = [at for at, column in enumerate(columns) if sizes[at] > _least(column, natural[at])]
        if not shrinkable:
            break
        sizes[max(shrinkable, key=lambda at: sizes[at])] -= 1
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
    """Omit the middle of a text: the names of a program often differ only at the end."""
    if len(text) <= size:
        return text
    head = (size - 2) // 2
    return f"{text[:head]}..{text[len(text) - (size - 2 - head) :]}"
