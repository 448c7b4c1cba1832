"""Partitions of a data set: the sources of their elements, the steps applied to them, and the tasks that do so."""

from __future__ import annotations

import functools
import pickle
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from runmem.graph.task import task

__all__ = [
    "Files", "Joined", "Partition", "PickledFile", "Slice", "Text", "counted", "distributed", "merged_counts",
    "merged_values", "mapped", "portable_hash", "sampled", "saved", "slice_of_counts", "text_chunks",
]  # fmt: skip

Step = Callable[[Any], Any]


def _task(function: Callable[..., object]) -> Any:
    return task(returns=1)(function)


class Partition(NamedTuple):
    """A part of a data set, computed by a task when its elements are needed.

    Attributes
    ----------
    source : object
        The elements, their future, or an object of a class below, whose `read` returns them.
    steps : tuple of callable
        Functions applied to the elements, in order.
    """

    source: Any
    steps: tuple[Step, ...] = ()

    @property
    def is_to_be_made(self) -> bool:
        """Whether a task has to compute the elements from `source`."""
        return bool(self.steps) or isinstance(self.source, SOURCES)

    def with_step(self, step: Step) -> Partition:
        """Return the partition with one more step."""
        return Partition(self.source, (*self.steps, step))


class Slice(NamedTuple):
    """Some elements of an iterable; of a dictionary, the pairs in the order of its keys."""

    iterable: Iterable[object]
    start: int
    stop: int

    @classmethod
    def of(cls, iterable: Iterable[object], start: int, stop: int) -> Slice:
        """Copy the elements, so that the task receives no others; a range is not copied."""
        if isinstance(iterable, Mapping):
            items: list[object] = [(key, iterable[key]) for key in sorted(iterable)[start:stop]]
        elif isinstance(iterable, range):
            return cls(iterable, start, stop)
        else:
            items = list(iterable[start:stop] if isinstance(iterable, Sequence) else [*iterable][start:stop])
        return cls(items, 0, stop - start)

    def read(self) -> list[object]:
        """Return the elements."""
        return list(self.iterable)[self.start : self.stop]


class Text(NamedTuple):
    """A chunk of a text file, which is one element."""

    path: str
    start: int
    size: int

    def read(self) -> list[str]:
        """Return the chunk."""
        with open(self.path) as file:
            file.seek(self.start)
            return [file.read(self.size)]


class Files(NamedTuple):
    """Whole text files, each a pair of its path and its content."""

    paths: list[str]

    def read(self) -> list[tuple[str, str]]:
        """Return the pairs."""
        return [(path, Path(path).read_text()) for path in self.paths]


class PickledFile(NamedTuple):
    """A partition that was saved as a pickle."""

    path: str

    def read(self) -> object:
        """Return its elements."""
        with open(self.path, "rb") as file:
            return pickle.load(file)


class Joined(NamedTuple):
    """Parts of a partition that several tasks have computed."""

    parts: list[Any]

    def read(self) -> list[object]:
        """Return all elements, in order."""
        return list(chain.from_iterable(self.parts))


SOURCES = (Slice, Text, Files, PickledFile, Joined)


def _elements(source: Any, steps: Sequence[Step]) -> Any:
    elements = source.read() if isinstance(source, SOURCES) else source
    for step in steps:
        elements = step(elements)
    return elements if not isinstance(elements, Iterator) else list(elements)


@_task
def mapped(source: object, steps: Sequence[Step]) -> object:
    """Return the elements of a partition."""
    return _elements(source, steps)


@_task
def distributed(source: object, steps: Sequence[Step], bucket_of: Callable[[object], int], count: int) -> object:
    """Return pairs in `count` lists, by their keys."""
    buckets: list[list[object]] = [[] for _ in range(count)]
    for key, value in _elements(source, steps):
        buckets[bucket_of(key) % count].append((key, value))
    return buckets if count > 1 else buckets[0]


@_task
def merged_values(function: Callable[[object, object], object], parts: list[list[object]]) -> list[object]:
    """Reduce lists of at most one value to such a list."""
    values = list(chain.from_iterable(parts))
    return [functools.reduce(function, values)] if values else []


@_task
def merged_counts(parts: list[Counter[object]]) -> Counter[object]:
    """Add up counts."""
    total: Counter[object] = Counter()
    for part in parts:
        total.update(part)
    return total


@_task
def slice_of_counts(counts: Counter[object], number: int, total: int) -> list[tuple[object, int]]:
    """Return slice `number` of `total` of the counts, in the order of what is counted."""
    items = sorted(counts.items())
    return items[len(items) * number // total : len(items) * (number + 1) // total]


@_task
def sampled(elements: Sequence[Any], most: int, key: Callable[[object], object]) -> list[object]:
    """Return the sort keys of some pairs."""
    step = max(len(elements) // most, 1)
    return [key(pair[0]) for pair in elements[::step]]


@_task
def saved(source: object, steps: Sequence[Step], path: str, as_text: bool) -> None:
    """Write the elements of a partition to a file."""
    elements = list(_elements(source, steps))
    if as_text:
        Path(path).write_text("".join(f"{element}\n" for element in elements))
    else:
        Path(path).write_bytes(pickle.dumps(elements))


def counted(elements: Iterable[object]) -> Counter[object]:
    """Count equal elements."""
    return Counter(elements)


def portable_hash(value: object) -> int:
    """Return a hash that is the same in all processes; of an integer, its value."""
    if isinstance(value, (int, float, complex)):
        return hash(value)
    if isinstance(value, tuple):
        return functools.reduce(lambda total, item: (total * 31 + portable_hash(item)) & sys.maxsize, value, 7)
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else pickle.dumps(value, 4)
    return zlib.crc32(data)


def text_chunks(path: str, size: int, in_bytes: bool, strip: bool) -> Iterator[list[str]]:
    """Yield the lines of a text file in lists: of `size` lines, or of somewhat more than `size` bytes in memory."""
    chunk: list[str] = []
    used = 0
    with open(path) as file:
        for line in file:
            chunk.append(line.rstrip("\n") if strip else line)
            used += sys.getsizeof(chunk[-1]) if in_bytes else 1
            if used > size or not in_bytes and used == size:
                yield chunk
                chunk, used = [], 0
    if chunk:
        yield chunk
