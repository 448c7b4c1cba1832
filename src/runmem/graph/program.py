"""The running program: it turns calls of tasks into `TaskCall`s and synchronises with them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

from runmem.errors import ArgumentError, FilePlacementError
from runmem.graph.call import Execution, FileUse, Origin, Submitter, TaskCall, Version
from runmem.graph.directions import Direction, Kind
from runmem.graph.files import FileVersions
from runmem.graph.future import Future
from runmem.graph.task import TaskFunction
from runmem.graph.versions import ObjectVersions
from runmem.store.output import ResolvedPath, resolve

__all__ = ["Program"]


class Program:
    """What runmem knows of the program while it runs: data versions, files, and where calls go.

    Parameters
    ----------
    submitter : Submitter
    files_folder : callable
        See `FileVersions`.

    Attributes
    ----------
    all_files_in_place : bool
        Whether `settle_all_files` has left no version that was to come into place and did not.
    """

    def __init__(self, submitter: Submitter, files_folder: Callable[[], Path]) -> None:
        self._submitter = submitter
        self._objects = ObjectVersions()
        self._files = FileVersions(files_folder)
        self._calls = 0
        self._told: set[str] = set()
        self.all_files_in_place = False
        self._lock = threading.RLock()

    @property
    def calls(self) -> int:
        """Number of task calls so far."""
        return self._calls

    def call(self, task: TaskFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Submit a call; return a future, a list of futures for more than one value, or None for none."""
        task.signature.check(args, kwargs)
        with self._lock:
            execution = Execution(self._calls + 1, task.name, task.returns.count)
            call, written = self._submitted(task, args, kwargs, execution)
            self._calls += 1
            for output, datum in enumerate(written, task.returns.count):
                self._objects.write(datum, Version(execution, output))
        count, cls = task.returns
        if count == 0:
            return None
        futures = [Future(Version(execution, output), cls if output == 0 else None) for output in range(count)]
        return futures[0] if count == 1 else futures

    def _submitted(
        self, task: TaskFunction, args: tuple[Any, ...], kwargs: dict[str, Any], execution: Execution
    ) -> tuple[TaskCall, list[Any]]:
        """Submit a call; return it and the data that it writes. A call that cannot be sent leaves no trace."""
        if task.signature.only_reads:
            call, written = self._describe(task, args, kwargs, execution, {})
            self._submitter.submit(call, self._objects.current if self._objects else None)
            return call, written
        kwargs = task.signature.with_declared_defaults(args, kwargs)
        paths = self._file_arguments(task, args, kwargs)
        if paths:
            execution.origin = Origin()
        restore = self._files.saved((place.real for place, _ in paths.values()), execution)
        try:
            call, written = self._describe(task, args, kwargs, execution, paths)
            self._submitter.submit(call, self._objects.current if self._objects else None)
        except BaseException:
            restore()
            raise
        return call, written

    def _describe(
        self,
        task: TaskFunction,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        execution: Execution,
        paths: dict[int | str, tuple[ResolvedPath, Direction]],
    ) -> tuple[TaskCall, list[Any]]:
        """Return the call and the data that it writes, in the order of its outputs after the returned ones."""
        values: dict[int | str, Any] = dict(enumerate(args))
        values.update(kwargs)
        writes: list[int | str] = []
        written: list[Any] = []
        if not task.signature.only_reads:
            for place, use in task.signature.uses(args, kwargs):
                if use.kind is not Kind.FILE:
                    writes.append(place)
                    written.append(values[place])
        versions, files, after = self._use_files(paths, execution)
        for place, path in versions.items():
            values[place] = type(values[place])(path) if isinstance(values[place], PurePath) else path
        current = self._objects.current
        for place, value in values.items():
            if (version := current(value)) is not None:
                values[place] = version
        execution.outputs += len(writes)
        sent = tuple(values[position] for position in range(len(args))), {name: values[name] for name in kwargs}
        call = TaskCall(
            execution, task, *sent, returns=task.returns.count, writes=tuple(writes), after=tuple(after),
            files=tuple(files),
        )  # fmt: skip
        return call, written

    def _file_arguments(
        self, task: TaskFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[int | str, tuple[ResolvedPath, Direction]]:
        """Return what each argument that is declared a file leads to, and its direction, by its place."""
        found: dict[int | str, tuple[ResolvedPath, Direction]] = {}
        for place, use in task.signature.uses(args, kwargs):
            if use.kind is Kind.FILE:
                path = args[place] if isinstance(place, int) else kwargs[place]
                where = f"{task.name}: parameter {task.signature.parameter_at(place)!r} is declared {use!r}"
                if not isinstance(path, (str, os.PathLike)):
                    raise ArgumentError(
                        f"{where}, so it takes a path; it was given {path!r} of type {type(path).__name__}."
                    )
                found[place] = _looked_at(path, use.direction, where), use.direction
        return found

    def _use_files(
        self, paths: dict[int | str, tuple[ResolvedPath, Direction]], execution: Execution
    ) -> tuple[dict[int | str, str], list[FileUse], list[Execution]]:
        """Return the path of each file argument's version, what to prepare, and which executions must come before.

        A call that names one file twice uses one version of it: it writes what it reads, as the plain call would.
        """
        by_name: dict[str, dict[int | str, tuple[ResolvedPath, Direction]]] = {}
        for argument, (place, direction) in paths.items():
            by_name.setdefault(place.real, {})[argument] = place, direction
        shown: dict[int | str, str] = {}
        files: list[FileUse] = []
        after: list[Execution] = []
        for uses in by_name.values():
            places = [place for place, _ in uses.values()]
            written = [place for place, direction in uses.values() if direction.writes]
            if not written:
                file, writer = self._files.read(places[0], execution)
            else:
                reads = any(direction is not Direction.OUT for _, direction in uses.values())
                file, writer = self._files.write(written[0], execution, reads)
            if writer is not None:
                after.append(writer)
            names = {argument: self._files.path_for(place) for argument, (place, _) in uses.items()}
            shown.update(names)
            if file is not None:
                files.append(file._replace(places=names))
        return shown, files, after

    def wait_on(self, objects: tuple[Any, ...]) -> Any:
        """Return the values of futures and of objects that tasks have written, in the same containers."""
        with self._lock:
            versions: dict[int, Version] = {}
            searched: set[int] = set()
            for datum in objects:
                self._collect(datum, versions, searched)
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
        """Return `datum` with values in the places of futures; `replaced`: the containers that were seen before."""
        if id(datum) in values:
            return values[id(datum)]
        if type(datum) not in (list, tuple, dict):
            return datum
        if id(datum) not in replaced:
            replaced[id(datum)] = datum  # found again inside itself, it stays what it is
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
        """Tell whether the task of a future has ended, well or badly, without waiting."""
        return self._submitter.has_ended(future.version.execution)

    def barrier(self) -> None:
        """Wait for all tasks; raise the exception of one that failed and that nobody has seen."""
        self._submitter.wait(None)

    def settle_file(self, path: str | os.PathLike[str], for_writing: bool = False) -> None:
        """Wait for the last writer of a file and bring its version into place."""
        try:
            self._files.settle(os.fspath(path), self._submitter, for_writing, self._lock)
        except FilePlacementError as error:
            self._told.add(str(error))
            raise

    def settle_all_files(self) -> list[FilePlacementError]:
        """Bring every file into place that can be; return the errors of the others, unless the program has seen them.

        A file whose writer failed stays as it was: told by the submitter at the end of the run.
        """
        misplaced: list[FilePlacementError] = []
        self.all_files_in_place = not self._told
        for path in self._files.known():
            try:
                self._files.settle(path, self._submitter, lock=self._lock)
            except FilePlacementError as error:
                self.all_files_in_place = False
                misplaced += [error] if str(error) not in self._told else []
            except Exception:
                continue
        return misplaced

    def delete_object(self, datum: Any) -> bool:
        """Stop tracking an object, so that its versions can be freed; return whether it was tracked."""
        with self._lock:
            return self._objects.forget(datum)


def _looked_at(path: str | os.PathLike[str], direction: Direction, where: str) -> ResolvedPath:
    """Return what a path leads to; ArgumentError if a task cannot write a file there."""
    try:
        place = resolve(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"{where}, and {os.fspath(path)!r} cannot be used: {reason}. Give another path.") from error
    if direction.writes and place.obstacle is not None:
        raise ArgumentError(
            f"{where}, so the task writes a file, and {os.fspath(path)!r} is {place.obstacle}: give the path of a "
            "file, of a device to write to, or of a pipe."
        )
    return place
