"""Data sets in partitions, one task each; functions are applied when elements are requested."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from typing import Any

from runmem.graph.synchronise import wait_on
from runmem.pycompss.dds import partitions as tasks
from runmem.pycompss.dds import steps
from runmem.pycompss.dds.partitions import Files, Joined, Partition, PickledFile, Slice, Text

__all__ = ["DDS"]

_NO_VALUE = object()
_SAMPLES = 20  # of a partition, to find out where to cut a sorted data set


class DDS:
    """A distributed data set: an ordered collection of elements in partitions.

    Loading adds partitions to the data set and returns it. All other methods leave it as it is: those that give
    elements run tasks, one a partition, and the others return a new data set, for which no task runs yet.

    Parameters
    ----------
    iterable : iterable, optional
        See `load`.
    num_of_parts : int
    """

    def __init__(self, iterable: Iterable[object] | None = None, num_of_parts: int = 10) -> None:
        self._parts: list[Partition] = []
        if iterable is not None:
            self.load(iterable, num_of_parts)

    # Loading

    def load(self, iterator: Iterable[Any], num_of_parts: int = 10, paac: bool = False) -> DDS:
        """Add an iterable in so many partitions, a dictionary as pairs; -1: a list of partitions or of their futures.

        `paac`: whether each of these partitions is a list of futures of lists.
        """
        if num_of_parts == -1:
            self._parts += [Partition(Joined(part) if paac else part) for part in iterator]
            return self
        items: Any = iterator if hasattr(iterator, "__len__") else list(iterator)
        if total := len(items):
            bounds = _bounds(total, num_of_parts)
            self._parts += [Partition(Slice.of(items, start, stop)) for start, stop in bounds]
        return self

    def load_file(self, file_path: str, chunk_size: int = 1024, worker_read: bool = False) -> DDS:
        """Add a text file, in elements and partitions of `chunk_size` characters; `worker_read`: read by the tasks."""
        path = os.path.abspath(file_path)
        if worker_read:
            starts = range(0, os.path.getsize(path), chunk_size)
            self._parts += [Partition(Text(path, start, chunk_size)) for start in starts]
            return self
        with open(path) as file:
            while chunk := file.read(chunk_size):
                self._parts.append(Partition([chunk]))
        return self

    def load_text_file(self, file_name: str, chunk_size: int = 1024, in_bytes: bool = True, strip: bool = True) -> DDS:
        """Add the lines of a text file, in partitions of `chunk_size` bytes or lines."""
        self._parts += [Partition(chunk) for chunk in tasks.text_chunks(file_name, chunk_size, in_bytes, strip)]
        return self

    def load_files_from_dir(self, dir_path: str, num_of_parts: int = -1) -> DDS:
        """Add the text files of a folder, each a pair of its path and its content; -1: each in its own partition."""
        paths = _files(dir_path)
        bounds = _bounds(len(paths), num_of_parts if num_of_parts >= 0 else len(paths))
        self._parts += [Partition(Files(paths[start:stop])) for start, stop in bounds]
        return self

    def load_pickle_files(self, dir_path: str) -> DDS:
        """Add the partitions that `save_as_pickle` has written to a folder."""
        self._parts += [Partition(PickledFile(path)) for path in _files(dir_path)]
        return self

    # Elements

    @property
    def partitions(self) -> list[Any]:
        """The futures of the partitions."""
        return self.collect(future_objects=True)

    def num_of_partitions(self) -> int:
        """Return the number of partitions."""
        return len(self._parts)

    def collect(self, keep_partitions: bool = False, future_objects: bool = False) -> list[Any]:
        """Return all elements; `keep_partitions`: in a list for each partition; `future_objects`: as its future."""
        for number, part in enumerate(self._parts):
            if part.is_to_be_made:
                self._parts[number] = Partition(tasks.mapped(*part))
        futures = [part.source for part in self._parts]
        if future_objects:
            return futures
        elements = [list(part) for part in wait_on(futures)]
        return elements if keep_partitions else [element for part in elements for element in part]

    def collect_as_dict(self) -> dict[Any, Any]:
        """Return pairs as a dictionary."""
        return dict(self.collect())

    def take(self, num: int) -> list[Any]:
        """Return the first elements, without waiting for later partitions."""
        taken: list[Any] = []
        for future in self.collect(future_objects=True):
            if len(taken) >= num:
                break
            taken += list(wait_on(future))[: num - len(taken)]
        return taken

    def foreach(self, func: Callable[[Any], object]) -> None:
        """Call a function for each element, and wait until that is done."""
        self.map(func).map_partitions(steps.nothing).collect()

    def save_as_text_file(self, path: str) -> None:
        """Write a file for each partition to a folder, one line an element, and wait until that is done."""
        self._save(path, as_text=True)

    def save_as_pickle(self, path: str) -> None:
        """Write a pickle of each partition to a folder, and wait until that is done."""
        self._save(path, as_text=False)

    def _save(self, path: str, as_text: bool) -> None:
        folder = os.path.abspath(path)
        os.makedirs(folder, exist_ok=True)
        files = (os.path.join(folder, f"{number:05d}") for number in range(len(self._parts)))
        wait_on([tasks.saved(*part, file, as_text) for part, file in zip(self._parts, files, strict=True)])

    # Every element or partition by itself

    def map(self, func: Callable[..., object], *args: object, **kwargs: object) -> DDS:
        """Return the data set of the results of a function, called with each element and further arguments."""
        return self.map_partitions(functools.partial(steps.map_each, func, args, kwargs))

    def map_partitions(self, func: Callable[[Any], Iterable[object]]) -> DDS:
        """Return the data set of the results of a function of each partition, an iterable."""
        return self._of([part.with_step(func) for part in self._parts])

    def flat_map(self, func: Callable[..., Iterable[object]], *args: object, **kwargs: object) -> DDS:
        """Return the data set of all items of the iterables that a function returns for the elements."""
        return self.map_partitions(functools.partial(steps.flat_map, func, args, kwargs))

    map_and_flatten = flat_map

    def filter(self, func: Callable[[Any], object]) -> DDS:
        """Return the data set of the elements for which a function returns a true value."""
        return self.map_partitions(functools.partial(steps.keep, func))

    def union(self, *args: DDS) -> DDS:
        """Return the data set of the partitions of this one and others."""
        return self._of([part for dds in (self, *args) for part in dds._parts])

    def key_by(self, func: Callable[[Any], object]) -> DDS:
        """Return the data set of pairs of a key, which a function returns for an element, and the element."""
        return self.map(functools.partial(steps.with_key, func))

    # All elements together

    def reduce(self, func: Callable[[Any, Any], Any], initial: object = _NO_VALUE, arity: int = -1) -> Any:
        """Reduce all elements to one by a tree of calls; `arity`: how many results a call reduces, -1: all.

        Raises
        ------
        TypeError
            If there is neither an element nor an initial value.
        """
        level = self.map_partitions(functools.partial(steps.reduced, func)).collect(future_objects=True)
        level = [*level, [initial]] if initial is not _NO_VALUE else level
        size = arity if arity > 1 else max(len(level), 2)
        while len(level) > 1:
            level = [tasks.merged_values(func, level[start : start + size]) for start in range(0, len(level), size)]
        found = wait_on(level[0]) if level else []
        if not found:
            raise TypeError("reduce: the data set has no elements, and there is no initial value")
        return found[0]

    def sum(self) -> Any:
        """Return the sum of all elements."""
        return sum(self.map_partitions(steps.summed).collect())

    def count(self) -> int:
        """Return the number of elements."""
        return sum(self.map_partitions(steps.length).collect())

    def distinct(self) -> DDS:
        """Return the data set of the elements without repetitions."""
        return self.map(steps.with_none).reduce_by_key(steps.first).keys()

    def count_by_value(self, arity: int = 2, as_dict: bool = True, as_fo: bool = False) -> Any:
        """Count equal elements by a tree of calls; return a dictionary, its future, or a data set of pairs."""
        level = self.map_partitions(tasks.counted).collect(future_objects=True)
        size = max(arity, 2)
        while len(level) != 1:
            starts = range(0, len(level), size) if level else [0]
            level = [tasks.merged_counts(level[start : start + size]) for start in starts]
        if as_dict:
            return level[0] if as_fo else dict(wait_on(level[0]))
        total = self.num_of_partitions()
        return DDS().load([tasks.slice_of_counts(level[0], number, total) for number in range(total)], -1)

    # Pairs of a key and a value

    def keys(self) -> DDS:
        """Return the data set of the keys."""
        return self.map(steps.key)

    def values(self) -> DDS:
        """Return the data set of the values."""
        return self.map(steps.value)

    def map_values(self, func: Callable[[Any], object]) -> DDS:
        """Return the data set of pairs with the results of a function in the places of the values."""
        return self.map(functools.partial(steps.map_value, func))

    def flatten_by_key(self, func: Callable[[Any], Iterable[object]]) -> DDS:
        """Return a pair for each item of the iterables that a function returns for the values."""
        return self.flat_map(functools.partial(steps.flat_value, func))

    def partition_by(
        self, partitioner_func: Callable[[Any], int] = tasks.portable_hash, num_of_partitions: int = -1
    ) -> DDS:
        """Return the data set in other partitions; a function returns the number of the partition of a key."""
        count = num_of_partitions if num_of_partitions > 0 else max(len(self._parts), 1)
        rows = [tasks.distributed(*part, partitioner_func, count, returns=count) for part in self._parts]
        rows = rows if count > 1 else [[row] for row in rows]
        return self._of([Partition(Joined([row[number] for row in rows])) for number in range(count)])

    def combine_by_key(
        self,
        creator_func: Callable[[Any], Any],
        combiner_func: Callable[[Any, Any], Any],
        merger_function: Callable[[Any, Any], Any],
        total_parts: int = -1,
    ) -> DDS:
        """Return a pair for each key: the key and a combination of its values.

        Parameters
        ----------
        creator_func : callable
            Makes the combination of one value.
        combiner_func : callable
            Adds a value of the same partition to a combination.
        merger_function : callable
            Joins combinations of several partitions.
        total_parts : int
            Number of partitions; -1: as many as before.
        """
        combined = self.map_partitions(functools.partial(steps.combined, creator_func, combiner_func))
        parts = combined.partition_by(num_of_partitions=total_parts)
        return parts.map_partitions(functools.partial(steps.combined, steps.same, merger_function))

    def reduce_by_key(self, func: Callable[[Any, Any], Any]) -> DDS:
        """Return a pair for each key, its values reduced to one by a function."""
        return self.combine_by_key(steps.same, func, func)

    def group_by_key(self, num_of_parts: int = -1) -> DDS:
        """Return a pair for each key, its values in a list."""
        return self.combine_by_key(steps.in_list, steps.appended, steps.extended, num_of_parts)

    def count_by_key(self, as_dict: bool = False) -> Any:
        """Count the pairs of each key; return a data set of pairs, or a dictionary."""
        return self.keys().count_by_value(as_dict=as_dict)

    def join(self, other: DDS, num_of_partitions: int = -1) -> DDS:
        """Return a pair for each two pairs of one key, one of each data set: the key and both values."""
        both = self.map_values(functools.partial(steps.tagged, 1)).union(
            other.map_values(functools.partial(steps.tagged, 2))
        )
        count = num_of_partitions if num_of_partitions > 0 else self.num_of_partitions()
        return both.group_by_key(count).flatten_by_key(steps.products)

    def sort_by_key(
        self, ascending: bool = True, num_of_parts: int | None = None, key_func: Callable[[Any], Any] | None = None
    ) -> DDS:
        """Return the data set sorted by its keys, or by a function of the keys.

        Waits for samples of the keys, which determine the bounds of the partitions.
        """
        key = key_func or steps.same
        futures = self.collect(future_objects=True)
        samples = sorted(
            sample for part in wait_on([tasks.sampled(f, _SAMPLES, key) for f in futures]) for sample in part
        )
        count = num_of_parts or max(len(futures), 1)
        bounds = [samples[len(samples) * number // count] for number in range(1, count)] if samples else []
        whole = DDS().load(futures, -1).partition_by(functools.partial(steps.range_of, bounds, key, ascending), count)
        return whole.map_partitions(functools.partial(steps.sorted_pairs, key, ascending))

    @staticmethod
    def _of(parts: list[Partition]) -> DDS:
        made = DDS()
        made._parts = parts
        return made


def _bounds(total: int, count: int) -> list[tuple[int, int]]:
    """Return the bounds of `count` parts of `total` items; the first parts get the remainder."""
    size, longer = divmod(total, count) if count else (0, 0)
    starts = [number * size + min(number, longer) for number in range(count + 1)]
    return list(zip(starts[:-1], starts[1:], strict=True))


def _files(folder: str) -> list[str]:
    return [os.path.join(os.path.abspath(folder), name) for name in sorted(os.listdir(folder))]
