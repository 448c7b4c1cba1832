"""What a program calls to wait for its tasks. Without a running program these return their arguments.

But for coroutines: without a running program the call of an ``async`` task is one, and `wait_on` runs it.
"""

from __future__ import annotations

import os
from typing import IO, Any

from runmem.graph.current import current_program
from runmem.graph.lazy_values import values_of

__all__ = ["wait_on", "barrier", "open_file", "wait_on_file", "delete_object"]


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
    TaskKilledError
        If the process of the worker died each time the task was tried.
    """
    program = current_program()
    if program is None:
        return values_of(objects[0]) if len(objects) == 1 else values_of(list(objects))
    return program.wait_on(objects)


def barrier(no_more_tasks: bool = False) -> None:
    """Wait until every task has ended; raise the exception of one that failed and that nobody has seen."""
    program = current_program()
    if program is not None:
        program.barrier()


def wait_on_file(*paths: str | os.PathLike[str]) -> Any:
    """Wait until the last task that writes each file has ended; the file is then in its place. Return the path(s)."""
    program = current_program()
    if program is not None:
        for path in paths:
            program.settle_file(path)
    return paths[0] if len(paths) == 1 else list(paths)


def open_file(path: str | os.PathLike[str], mode: str = "r") -> IO[Any]:
    """Open a file that tasks write, when the last of them has ended."""
    program = current_program()
    if program is not None:
        program.settle_file(path, for_writing=any(letter in mode for letter in "wax+"))
    return open(path, mode)


def delete_object(*objects: Any) -> bool:
    """Tell that the program needs no version of these objects any more; return whether all were known."""
    program = current_program()
    if program is None:
        return True
    return all([program.delete_object(datum) for datum in objects])
