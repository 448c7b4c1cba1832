"""The largest allocations in a file of memray, as a table."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from runmem.memory.source import SourceBlock
from runmem.table import TableColumn, lay_out
from runmem.units import mib

__all__ = ["Allocations", "Place", "AllocationSite", "allocations_of"]

_MOST_SITES = 10
_LEAST_SHARE = 1000  # smaller parts of the whole are added up
_COLUMNS = (
    TableColumn("Size", right=True),
    TableColumn("Blocks", right=True),
    TableColumn("Line #", right=True),
    TableColumn("Line Contents"),
    TableColumn("Allocated in"),
)


class Place(NamedTuple):
    """The function whose lines are shown: its file and its lines."""

    source: SourceBlock

    def line_of(self, stack: list[tuple[str, str, int]]) -> int | None:
        """Return the line of the function in a stack, innermost frame first; None if it is not in it."""
        first = self.source.first_line
        lines = range(first, first + max(1, len(self.source.texts)))
        return next((line for _, file, line in stack if file == self.source.file and line in lines), None)

    def text_of(self, line: int | None) -> str:
        """Return the text of a line."""
        at = -1 if line is None else line - self.source.first_line
        return self.source.texts[at].strip() if 0 <= at < len(self.source.texts) else ""


class AllocationSite(NamedTuple):
    """Code that has allocated memory: the line of the profiled function, and where that is done.

    Attributes
    ----------
    size_bytes, blocks : int
        What it had allocated, and not freed, when the call had the most.
    line : int or None
    place : str
        Function, file and line that allocate, perhaps inside a library; ``native code`` outside of Python.
    """

    size_bytes: int
    blocks: int
    line: int | None
    place: str


class Allocations(NamedTuple):
    """What was allocated when the call had the most.

    Attributes
    ----------
    size_bytes, blocks : int
        All of it.
    sites : tuple of AllocationSite
        By size, the largest first.
    by : str
        The tool, with its version.
    """

    size_bytes: int
    blocks: int
    sites: tuple[AllocationSite, ...]
    by: str

    def render(self, place: Place, precision: int) -> str:
        """Return the table with the largest sites, and what the others have together."""
        large = sum(site.size_bytes * _LEAST_SHARE >= self.size_bytes for site in self.sites[:_MOST_SITES])
        shown, others = self.sites[:large], self.sites[large:]
        rows = [
            [
                _size(site.size_bytes, precision),
                f"{site.blocks:,}",
                "-" if site.line is None else str(site.line),
                place.text_of(site.line),
                site.place,
            ]
            for site in shown
        ]
        if others:
            size, blocks = sum(site.size_bytes for site in others), sum(site.blocks for site in others)
            rows.append([_size(size, precision), f"{blocks:,}", "", "", _counted(len(others), "other place")])
        total = f"{_size(self.size_bytes, precision)} allocated in {_counted(self.blocks, 'block')}"
        head = f"At its highest, the call had {total} ({self.by}, native code included)"
        return "\n".join([head, "", *lay_out(_COLUMNS, rows)]) if rows else head


def allocations_of(path: Path, place: Place) -> Allocations:
    """Read the allocations in a file of memray; raises what memray does if it cannot be read."""
    import memray

    found: dict[tuple[int | None, str], tuple[int, int]] = {}
    with memray.FileReader(path) as reader:
        for record in reader.get_high_watermark_allocation_records(merge_threads=True):
            stack = _stack(record)
            key = place.line_of(stack), _describe(stack)
            size, blocks = found.get(key, (0, 0))
            found[key] = size + record.size, blocks + record.n_allocations
    ordered = sorted(found.items(), key=lambda item: -item[1][0])
    sites = tuple(AllocationSite(size, blocks, line, where) for (line, where), (size, blocks) in ordered)
    total, blocks = sum(site.size_bytes for site in sites), sum(site.blocks for site in sites)
    return Allocations(total, blocks, sites, f"memray {version('memray')}")


def _stack(record: Any) -> list[tuple[str, str, int]]:
    return list(record.stack_trace())


def _describe(stack: list[tuple[str, str, int]]) -> str:
    if not stack:
        return "native code"
    function, file, line = stack[0]
    return f"{function}, {file}:{line}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _size(size_bytes: int, precision: int) -> str:
    return f"{mib(size_bytes):.{precision}f} MiB"
