"""The running program: it turns calls of tasks into `TaskCall`s and synchronises with them."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import GeneratorType
from typing import Any, NamedTuple

from runmem.errors import ArgumentError, FilePlacementError
from runmem.graph.call import Execution, Origin, Slot, Submitter, TaskCall, Version
from runmem.graph.directions import Parameter
from runmem.graph.elements import as_type_of, can_have_levels, elements, root, set_element, with_elements
from runmem.graph.file_arguments import FilesOfCall, file_arguments, use_files
from runmem.graph.files import FileVersions
from runmem.graph.future import Future
from runmem.graph.groups import Group
from runmem.graph.lazy_values import Items
from runmem.graph.returns import Returns
from runmem.graph.task import TaskFunction, only_warns
from runmem.graph.versions import ObjectVersions, can_change
from runmem.reading import short_repr

__all__ = ["Program"]


class Program:
    """State of the running program: versions of data and files, groups, and the submitter.

    Parameters
    ----------
    submitter : Submitter
    files_folder : callable
        See `FileVersions`.
    next_number : callable, optional
        Returns the number of the next call, given how many there were; default: 1, 2, 3 and so on.

    Attributes
    ----------
    implicit_sync : bool
        Whether the program waits for a future wherever it uses its value.
    number_of_nodes : callable
        Returns how many nodes the run's workers are on.
    all_files_in_place : bool
        Whether `place_all_files` has moved every version to its path.
    identity : object
        Identifies the program in its futures, without keeping it alive.
    waits_in_its_thread : bool
        Whether only the thread that has made a call may wait for it.
    """

    waits_in_its_thread = False

    def __init__(
        self,
        submitter: Submitter,
        files_folder: Callable[[], Path],
        next_number: Callable[[int], int] = lambda calls: calls + 1,
    ) -> None:
        self.identity = object()
        self._submitter = submitter
        self._next_number = next_number
        self._objects = ObjectVersions()
        self._files = FileVersions(files_folder)
        self._calls = 0
        self._reported: set[str] = set()
        self._groups: dict[str, Group] = {}
        self._open_groups: list[Group] = []
        self.all_files_in_place = False
        self.implicit_sync = False
        self.number_of_nodes: Callable[[], int] = lambda: 1
        self._lock = threading.RLock()

    @property
    def calls(self) -> int:
        """Number of task calls so far."""
        return self._calls

    def call(self, task: TaskFunction, args: tuple[Any, ...], kwargs: dict[str, Any], returns: Returns) -> Any:
        """Submit a call; return a future, a list of futures for more than one value, or None for none."""
        task.signature.check(args, kwargs)
        with self._lock:
            execution = Execution(self._next_number(self._calls), task.name, returns.count)
            group = self._open_groups[-1] if self._open_groups else None
            if group is not None:
                execution.group = group
                group.add(execution)
            try:
                written = self._submit_call(task, args, kwargs, execution)
            except BaseException:
                if group is not None:
                    group.discard(execution)
                raise
            self._calls += 1
            for output, datum in enumerate(written, returns.count):
                self._write(datum, Version(execution, output))
        if returns.count == 0:
            return None
        classes = [*returns.classes, *[None] * returns.count]
        versions = [Version(execution, output) for output in range(returns.count)]
        futures = [Future(version, classes[version.output], self.identity) for version in versions]
        return futures[0] if returns.count == 1 else futures

    def _submit_call(
        self, task: TaskFunction, args: tuple[Any, ...], kwargs: dict[str, Any], execution: Execution
    ) -> list[_Written]:
        """Submit a call; return the data that it writes. If the call cannot be sent, restore the state before it."""
        if task.signature.reads_collections:
            _check_nesting(task, args, kwargs)
        if task.signature.only_reads:
            self._send(task, args, kwargs, execution, FilesOfCall({}, [], []), [])
            return []
        kwargs = task.signature.with_declared_defaults(args, kwargs)
        paths = file_arguments(task.name, task.signature, args, kwargs)
        written = _written_data(task, args, kwargs)
        if paths:
            execution.origin = Origin()
        restore = self._files.saved((argument.place.real for argument in paths.values()), execution)
        try:
            self._send(task, args, kwargs, execution, use_files(paths, self._files, execution), written)
        except BaseException:
            restore()
            raise
        for argument, use in task.signature.uses(args, kwargs):
            if use.is_deleted:
                self._forget(args[argument] if isinstance(argument, int) else kwargs[argument], set())
        return written

    def _send(
        self,
        task: TaskFunction,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        execution: Execution,
        files: FilesOfCall,
        written: list[_Written],
    ) -> None:
        """Submit a call with the current versions of its data."""
        values: dict[int | str, Any] = dict(enumerate(args))
        values.update(kwargs)
        in_collections: dict[int | str, dict[tuple[object, ...], object]] = {}
        for slot, path in files.paths.items():
            if isinstance(slot, tuple):
                in_collections.setdefault(root(slot), {})[slot[1:]] = path
            else:
                values[slot] = as_type_of(values[slot], path)
        for argument, changed in in_collections.items():
            values[argument] = with_elements(values[argument], changed)
        current = self._objects.current
        for argument, value in values.items():
            if (version := current(value)) is not None:
                values[argument] = version
            elif type(value) is GeneratorType:
                values[argument] = Items(list(value))
        replaces = frozenset(version for datum in written if (version := current(datum.value)) is not None)
        count = execution.outputs
        execution.outputs += len(written)
        call = TaskCall(
            execution,
            task,
            tuple(values[position] for position in range(len(args))),
            {name: values[name] for name in kwargs},
            returns=count,
            writes=tuple(datum.slot for datum in written),
            after=tuple(files.after),
            files=tuple(files.uses),
            isolation=task.isolation,
            replaces=replaces,
        )
        self._submitter.submit(call, self._objects.current if self._objects else None)
        self._objects.read([*args, *kwargs.values()])

    def _write(self, datum: _Written, version: Version) -> None:
        """Make `version` the current one of an object, or of an element of a collection."""
        value, container = datum.value, datum.container
        if self._objects.write(value, version) and not datum.is_repeated:
            return
        # An object that cannot be tracked by identity: put a future in its place.
        if isinstance(datum.slot, tuple):
            set_element(container, datum.slot[-1], Future(version, None, self.identity))

    def wait_on(self, objects: tuple[Any, ...]) -> Any:
        """Return the values of futures and of objects that tasks have written, in the same containers."""
        with self._lock:
            versions: dict[int, Version] = {}
            searched: set[int] = set()
            for datum in objects:
                self._collect(datum, versions, searched)
            for version in versions.values():
                version.execution.is_read = True
        wanted = list(dict.fromkeys(versions.values()))
        fetched = dict(zip(wanted, self._submitter.fetch(wanted), strict=True)) if wanted else {}
        values = {identity: fetched[version] for identity, version in versions.items()}
        replaced: dict[int, Any] = {}
        results = [self._replace(datum, values, replaced) for datum in objects]
        return results[0] if len(results) == 1 else results

    def _collect(self, datum: Any, versions: dict[int, Version], searched: set[int]) -> None:
        """Note the version of each future and tracked object in `datum`, by its identity."""
        if (version := self._objects.current(datum)) is not None:
            versions[id(datum)] = version
        elif type(datum) in (list, tuple, dict) and id(datum) not in searched:
            searched.add(id(datum))
            for item in datum.values() if type(datum) is dict else datum:
                self._collect(item, versions, searched)

    def _replace(self, datum: Any, values: dict[int, Any], replaced: dict[int, Any]) -> Any:
        """Return `datum` with futures replaced by their values; `replaced`: the containers that were seen before."""
        if id(datum) in values:
            return values[id(datum)]
        if type(datum) not in (list, tuple, dict):
            return datum
        if id(datum) not in replaced:
            replaced[id(datum)] = datum  # a container that contains itself is not replaced there
            replaced[id(datum)] = self._replaced_items(datum, values, replaced)
        return replaced[id(datum)]

    def _replaced_items(self, datum: Any, values: dict[int, Any], replaced: dict[int, Any]) -> Any:
        if type(datum) is dict:
            pairs = {key: self._replace(item, values, replaced) for key, item in datum.items()}
            return pairs if any(pairs[key] is not datum[key] for key in datum) else datum
        items = [self._replace(item, values, replaced) for item in datum]
        changed = any(new is not old for new, old in zip(items, datum, strict=True))
        return type(datum)(items) if changed else datum

    def has_ended(self, future: Future) -> bool:
        """Return True if the task of a future has ended, with or without an error; never wait."""
        return self._submitter.has_ended(future.version.execution)

    def wait(self, futures: Sequence[Future], deadline: float | None = None) -> None:
        """Wait until the tasks of futures have ended, with or without an error; raise TimeoutError at `deadline`."""
        self._submitter.wait([future.version.execution for future in futures], deadline, raises=False)

    def cancel(self, futures: Sequence[Future]) -> None:
        """Cancel the tasks of futures that have not ended."""
        self._submitter.cancel([future.version.execution for future in futures])

    def cancel_all(self) -> None:
        """Cancel all tasks that have not ended."""
        self._submitter.cancel()

    def barrier(self) -> None:
        """Wait for all tasks; raise the exception of a failed one, unless the program has seen it."""
        self._submitter.wait(None)

    def open_group(self, name: str) -> None:
        """Begin a group of tasks: the calls that follow belong to it. It replaces one of the same name."""
        with self._lock:
            group = Group(name, self._open_groups[-1] if self._open_groups else None)
            self._groups[name] = group
            self._open_groups.append(group)

    def close_group(self, name: str) -> None:
        """End the innermost open group of this name: calls that follow belong to the one around it."""
        with self._lock:
            for place in reversed(range(len(self._open_groups))):
                if self._open_groups[place].name == name:
                    del self._open_groups[place]
                    return

    def _group(self, name: str) -> Group:
        try:
            return self._groups[name]
        except KeyError:
            known = ", ".join(map(repr, self._groups)) or "none"
            raise ArgumentError(f"there is no group of tasks named {name!r}; groups so far: {known}.") from None

    def barrier_group(self, name: str) -> None:
        """Wait for the calls of a group; raise the exception of one that failed."""
        group = self._group(name)
        members = group.members()
        self._submitter.wait(members, raises=False)
        self._submitter.wait(members if group.failed is None else [group.failed])

    def cancel_group(self, name: str) -> None:
        """Cancel the calls of a group that have not ended."""
        self._submitter.cancel(self._group(name).cancel())

    def delete_file(self, path: str | os.PathLike[str]) -> bool:
        """Delete a file when the tasks that use it have ended; return False if it did not exist."""
        name = os.fspath(path)
        with suppress(Exception):  # an error of its writer is reported where the program waits for that
            self.place_file(name, for_writing=True)
        with self._lock:
            self._files.forget(name)
        try:
            shutil.rmtree(name) if os.path.isdir(name) and not os.path.islink(name) else os.unlink(name)
        except FileNotFoundError:
            return False
        return True

    def place_file(self, path: str | os.PathLike[str], for_writing: bool = False) -> None:
        """Wait for the last writer of a file and move its version to its path."""
        try:
            self._files.bring_into_place(os.fspath(path), self._submitter, for_writing, self._lock)
        except FilePlacementError as error:
            self._reported.add(str(error))
            raise

    def place_all_files(self) -> list[FilePlacementError]:
        """Move every version to its path; return the errors of failed moves that the program has not seen.

        A file whose writer failed is left unchanged; the submitter reports that error at the end of the run.
        """
        not_placed: list[FilePlacementError] = []
        self.all_files_in_place = not self._reported
        for path in self._files.known():
            try:
                self._files.bring_into_place(path, self._submitter, lock=self._lock)
            except FilePlacementError as error:
                self.all_files_in_place = False
                not_placed += [error] if str(error) not in self._reported else []
            except Exception:
                continue
        return not_placed

    def is_written(self, datum: object) -> bool:
        """Return True if a task has written this object, so that the program's own is an older version."""
        return self._objects.current(datum) is not None

    def is_used(self, datum: object) -> bool:
        """Return True if a task has used this object, and the program has not deleted it since."""
        with self._lock:
            return self._objects.is_used(datum)

    def written_objects(self) -> list[int]:
        """Return the identities of the objects that tasks have written."""
        with self._lock:
            return self._objects.written()

    def delete_object(self, datum: object) -> bool:
        """Stop tracking an object and the objects in it, so that their versions can be freed.

        Return True if a task has used it, or one of them.
        """
        with self._lock:
            return self._forget(datum, set())

    def _forget(self, datum: object, seen: set[int]) -> bool:
        was_used = self._objects.forget(datum)
        if isinstance(datum, (list, tuple, dict)) and id(datum) not in seen:
            seen.add(id(datum))
            for item in list(datum.values()) if isinstance(datum, dict) else datum:
                was_used = self._forget(item, seen) or was_used
        return was_used


class _Written(NamedTuple):
    """An object that a call writes: its slot in the arguments and, for an element, the collection that contains it.

    Attributes
    ----------
    is_repeated : bool
        Whether it is in several slots of the call, each of which is then tracked separately.
    """

    slot: Slot
    value: object
    container: object = None
    is_repeated: bool = False


def _written_data(task: TaskFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[_Written]:
    """Return the objects that a call writes, in the order of its outputs after the returned ones.

    Raises
    ------
    ArgumentError
        For an object that a task cannot change, such as a number (in a program that imports pycompss a warning), or a
        collection nested less deeply than declared.
    """
    found: list[_Written] = []
    for argument, use in task.signature.uses(args, kwargs):
        if use.is_path or not use.direction.writes:
            continue
        value = args[argument] if isinstance(argument, int) else kwargs[argument]
        what = _declaration(task, argument, use)
        where = f"{task.place}: {what}"
        if not use.depth or type(value) is Future:
            if value is not None and not can_change(value):
                remedy = "return the new value, or pass an object that contains it, such as a list."
                _reject(task, what, value, f"a task cannot change {{}}: {remedy}")
                continue
            found.append(_Written(argument, value))
            continue
        its = list(elements(value, use.depth, argument, where))
        times = Counter(id(element.value) for element in its)
        found += [_Written(*element, is_repeated=times[id(element.value)] > 1) for element in its]
    return found


def _check_nesting(task: TaskFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise ArgumentError, or warn, if a collection that a call only reads is nested less deeply than declared."""
    for argument, use in task.signature.collections_read(args, kwargs):
        value = args[argument] if isinstance(argument, int) else kwargs[argument]
        if not can_have_levels(value, use.depth):
            remedy = "correct Depth, or pass nested lists."
            _reject(task, _declaration(task, argument, use), value, f"{{}} is not nested so deeply: {remedy}")


def _declaration(task: TaskFunction, argument: int | str, use: Parameter) -> str:
    return f"parameter {task.signature.parameter_at(argument)!r} is declared {use!r}"


def _reject(task: TaskFunction, what: str, value: object, why: str) -> None:
    """Raise ArgumentError for an argument of a call; in a program that imports pycompss only warn."""
    kind = type(value).__name__
    if not only_warns():
        raise ArgumentError(f"{task.place}: {what}, but {why.format(f'{short_repr(value)} (type {kind})')}")
    task.warn(f"{task.name}: {what}, but {why.format(f'a value of type {kind}')}")
