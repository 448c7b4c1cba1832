"""Packs the error of a call, with all that is known of where it was raised."""

from __future__ import annotations

import os
import threading
import types
from collections.abc import Mapping, Sequence

from runmem.errors import ArgumentError, CommandError, ReturnedValuesError, RunmemError
from runmem.graph.task import TaskFunction
from runmem.serialization.error_parts import field_of, text_of
from runmem.serialization.task_error import PackedError, RemoteError, add_note, set_root_task, traceback_text
from runmem.store.node_name import node_name
from runmem.worker.memory_errors import take_note

__all__ = ["argument_types", "packed_error", "remark_on"]

_ONLY_MAIN_THREAD = (
    "task {} runs in a thread of the worker, and only the main thread of a process may do this: set signal handlers in "
    "the program, around wait_on, or in a process that the task starts"
)
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def packed_error(
    error: BaseException, task: str, task_id: int, argument_types: str, shares_values: bool, remark: str = ""
) -> PackedError:
    """Pack the error of a call so that the program gets it as itself, with a note of where it was raised.

    Does not raise, whatever the error's class does: that would end the worker, or leave the call open.

    Parameters
    ----------
    task, task_id
        Name of the task, and number of the call.
    argument_types : str
        See `argument_types`.
    shares_values : bool
        Whether the large values that the task only reads are shared with other tasks.
    remark : str, optional
        See `remark_on`.
    """
    try:
        return _explained(error, task, task_id, argument_types, shares_values, remark)
    except BaseException as refusal:  # of the code of the error's class, or of what it holds
        what = text_of(refusal)
    replacement = RemoteError(text_of(error))
    add_note(
        replacement,
        f"raised in task {task} (call {task_id}) on node {node_name()}, process {os.getpid()}; its details cannot be "
        f"read ({what})",
    )
    set_root_task(replacement, task_id)
    return PackedError.of(replacement)


def _explained(
    error: BaseException, task: str, task_id: int, argument_types: str, shares_values: bool, remark: str
) -> PackedError:
    shown = error
    if type(error) in (ArgumentError, RunmemError) and error.__cause__ is not None:
        shown = error.__cause__  # what the user's class or module said; the rest is runmem's
    if issubclass(type(error), (SystemExit, KeyboardInterrupt)):  # `isinstance` asks the exception, too
        error = RemoteError(f"the task called for an exit: {text_of(error)}")  # not an order to another process
    facts = take_note(error)  # added again below: the traceback would repeat it
    if "only works in main thread" in text_of(error):
        add_note(error, _ONLY_MAIN_THREAD.format(task))
    add_note(
        error,
        f"raised in task {task} (call {task_id}) on node {node_name()}, process {os.getpid()}, "
        f"thread {threading.get_ident()}\n"
        f"arguments: {argument_types}{_trace_of(shown)}",
    )
    if remark:
        add_note(error, remark)
    if facts is not None:
        add_note(error, facts)
    if shares_values and _refuses_to_write(error):
        add_note(
            error,
            f"Large values that a task only reads are shared by all that read them, and cannot be written to. If "
            f"{task} changes a parameter on purpose, declare it INOUT; if not, copy it in the task "
            "(`data = data.copy()`), or start the program with --inputs=copied, which gives every task its own copy of "
            "its inputs.",
        )
    set_root_task(error, task_id)
    return PackedError.of(error)


def _refuses_to_write(error: BaseException) -> bool:
    """Return True if numpy or Python refused to write to read-only memory."""
    text = text_of(error)
    return issubclass(type(error), (ValueError, TypeError, BufferError)) and ("read-only" in text or "readonly" in text)


def _trace_of(error: BaseException) -> str:
    """Return the text of a traceback from the first frame of the program on; the frames above it are runmem's.

    It is empty if all frames are runmem's and the message says what failed, and where.
    """
    trace: types.TracebackType | None = field_of(error, "__traceback__")
    below = trace
    while below is not None and below.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        below = below.tb_next
    if below is None and issubclass(type(error), (CommandError, ReturnedValuesError)):
        return ""
    return f"\ntraceback on the worker:\n{traceback_text(error, below or trace)}"


def remark_on(error: BaseException, task: TaskFunction, args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """Return a remark on the error of a file that is not there, if it is one of the call's; else an empty text."""
    if type(error) is not FileNotFoundError:
        return ""
    for place, use in task.signature.uses(tuple(args), dict(kwargs)):
        path = args[place] if isinstance(place, int) else kwargs[place]
        if use.is_path and isinstance(path, (str, os.PathLike)) and os.fspath(path) == error.filename:
            return (
                f"{task.place}: the file is that of parameter {task.signature.parameter_at(place)!r}. No task has "
                f"written it before, and on node {node_name()} it is not there: correct the path, or declare the "
                "parameter FILE_OUT if the task makes the file."
            )
    return ""


def argument_types(task: TaskFunction, args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """Return the type of each argument of a call, by the name of its parameter."""
    places: list[tuple[int | str, object]] = [*enumerate(args), *kwargs.items()]
    return ", ".join(f"{task.signature.parameter_at(place)}: {type(value).__name__}" for place, value in places)
