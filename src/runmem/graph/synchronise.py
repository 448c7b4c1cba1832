"""What a program calls to wait for its tasks. Without a running program these return their arguments.

The exception are coroutines: without a running program a call of an ``async`` task gives one, which `wait_on` runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from runmem.graph.current import current_program
from runmem.graph.future import Future
from runmem.graph.lazy_values import values_of

__all__ = [
    "wait_on", "barrier", "barrier_group", "cancel_group", "open_file", "wait_on_file", "delete_object", "delete_file",
    "file_exists",
]  # fmt: skip


def wait_on(*objects: Any, mode: str = "rw") -> Any:
    """Return the values of futures, and of objects that tasks have written.

    Lists, tuples and dictionaries are searched for futures and come back with the values in their places. Several
    arguments give a list. Inside ``async def`` this holds up the event loop, where ``await future`` does not. Without a
    running program, coroutines (calls of ``async`` tasks) are run to their ends.

    Parameters
    ----------
    mode : str
        Accepted for PyCOMPSs programs; there is no difference here.

    Raises
    ------
    Exception
        The exception of the task, with the task's name, the types of its arguments, its node and the traceback of the
        worker in its notes.
    FutureGoneError
        For a future that was deleted, or whose run has ended.
    TaskKilledError
        If the process of the worker died each time the task was tried.
    """
    program = current_program()
    if program is None:
        _refuse_futures(objects, set())
        return values_of(objects[0]) if len(objects) == 1 else values_of(list(objects))
    return program.wait_on(objects)


def _refuse_futures(datum: object, seen: set[int]) -> None:
    """Raise FutureGoneError for a future, also in containers: no program is running, so its run has ended."""
    if type(datum) is Future:
        raise datum.error_after_end()
    if type(datum) in (list, tuple, dict) and id(datum) not in seen:
        seen.add(id(datum))
        for item in list(datum.values()) if isinstance(datum, dict) else datum:  # type: ignore[attr-defined]
            _refuse_futures(item, seen)


def barrier(no_more_tasks: bool = False) -> None:
    """Wait until every task has ended; raise the exception of one that failed and that nobody has seen."""
    program = current_program()
    if program is not None:
        program.barrier()


def barrier_group(group_name: str) -> None:
    """Wait until the tasks of a group have ended; raise what one of them raised.

    Raises
    ------
    ArgumentError
        If no group of that name was opened.
    """
    program = current_program()
    if program is not None:
        program.barrier_group(group_name)


def cancel_group(group_name: str) -> None:
    """Cancel the tasks of a group that have not ended, and those that need their results."""
    program = current_program()
    if program is not None:
        program.cancel_group(group_name)


def _for_each(paths: Any, use: Callable[[Any], Any]) -> Any:
    """Call a function with each path in lists and tuples, nested; return the results in the same containers."""
    if isinstance(paths, (list, tuple)):
        return type(paths)([_for_each(path, use) for path in paths])
    return use(paths)


def _one_or_all(results: list[Any]) -> Any:
    return results[0] if len(results) == 1 else results


def file_exists(*paths: Any) -> Any:
    """Return True for a file that is there, or that a task has written.

    Several paths give a list of answers; a list or tuple of paths gives a list or tuple of them.
    """
    program = current_program()

    def exists(path: str | os.PathLike[str]) -> bool:
        if program is not None:
            with suppress(Exception):  # an error of its writer is reported where the program waits for that
                program.place_file(path)
        return os.path.exists(path)

    return _one_or_all(_for_each(list(paths), exists))


def delete_file(*paths: Any) -> Any:
    """Delete files when the tasks that use them have ended; return whether there was one.

    Several paths give a list of answers; a list or tuple of paths gives a list or tuple of them.
    """
    program = current_program()
    delete = program.delete_file if program is not None else lambda path: True
    return _one_or_all(_for_each(list(paths), delete))


def wait_on_file(*paths: Any) -> Any:
    """Wait until the last task that writes each file has ended; the file is then in its place.

    Return the path, or a list of several; they may be in lists and tuples.
    """
    program = current_program()
    if program is not None:
        _for_each(list(paths), program.place_file)
    return _one_or_all(list(paths))


def open_file(path: str | os.PathLike[str], mode: str = "r") -> IO[Any]:
    """Open a file that tasks write, when the last of them has ended."""
    program = current_program()
    if program is not None:
        program.place_file(path, for_writing=any(letter in mode for letter in "wax+"))
    return open(path, mode)


def delete_object(*objects: object) -> bool:
    """Free the versions of objects that the program does not need any more.

    Lists, tuples and dictionaries are searched. The value of a future that is deleted cannot be used any more. Return
    True if tasks have used each of them.
    """
    program = current_program()
    if program is None:
        return True
    return all([program.delete_object(datum) for datum in objects])
