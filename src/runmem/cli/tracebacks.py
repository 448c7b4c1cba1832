"""Prints tracebacks from the program's first line on, without the frames of runmem and Dask.

Never runs code of an exception's class: fields are read with the descriptors of `BaseException`, as Python does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Any

from runmem.errors import RunmemError
from runmem.shadowed import drop_import_frames, traceback_of
from runmem.standard_error import say

__all__ = ["group_equal", "print_exception", "print_uncaught", "shorten"]

_HIDDEN_PACKAGES = ("runmem", "distributed", "dask", "cloudpickle")
_STANDARD_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_RUNMEM = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def print_uncaught(error: BaseException, full: bool) -> None:
    """Print an exception that ended the program, with the program's `sys.excepthook`.

    Parameters
    ----------
    full : bool
        Whether to print the frames inside runmem and Dask; those above the program's first line are never printed.

    Raises
    ------
    SystemExit
        If the hook raises it. Other exceptions of the hook are printed, as in Python.
    """
    original: TracebackType | None = _get(error, "__traceback__")
    trace = original
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_RUNMEM):
        trace = trace.tb_next
    _set(error, "__traceback__", drop_import_frames(trace) or original)
    if not full:
        shorten(error)
    _call_hook(error)
    _print_other_notes(error)


def _call_hook(error: BaseException) -> None:
    if not hasattr(sys, "excepthook"):
        say("sys.excepthook is missing")
        _print_as_python(error)
        return
    try:
        sys.excepthook(type(error), error, _get(error, "__traceback__"))
    except SystemExit:
        raise
    except BaseException as failure:
        trace: TracebackType = _get(failure, "__traceback__")
        _set(failure, "__traceback__", trace.tb_next)  # without this frame
        if _get(failure, "__context__") is error:
            _set(failure, "__context__", None)
        say("Error in sys.excepthook:")
        _print_as_python(failure)
        say("\nOriginal exception was:")
        _print_as_python(error)


def _print_as_python(error: BaseException) -> None:
    sys.__excepthook__(type(error), error, _get(error, "__traceback__"))


def print_exception(error: BaseException, full: bool) -> None:
    """Print an exception with its traceback to standard error."""
    from runmem.serialization.task_error import traceback_text  # as in `shorten`

    if not full:
        shorten(error)
    say(traceback_text(error, _get(error, "__traceback__")))
    _print_other_notes(error)


def _print_other_notes(error: BaseException) -> None:
    """Print the notes that Python omits because the class of the exception overrides them."""
    from runmem.serialization.task_error import unprinted_notes  # as in `shorten`

    for note in unprinted_notes(error):
        say(note)


def _get(error: BaseException, name: str) -> Any:
    """Return a field of `BaseException`, even if the class of the exception overrides it."""
    return vars(BaseException)[name].__get__(error)


def _set(error: BaseException, name: str, value: object) -> None:
    """Set a field of `BaseException`, even if the class of the exception forbids it."""
    vars(BaseException)[name].__set__(error, value)


def group_equal(errors: Sequence[BaseException]) -> list[tuple[BaseException, int]]:
    """Group errors by type and message; return the first error and the number of further ones of each group."""
    from runmem.serialization.error_parts import text_of  # as in `shorten`

    groups: dict[tuple[int, str], list[BaseException]] = {}
    for error in errors:
        groups.setdefault((id(type(error)), text_of(error)), []).append(error)
    return [(group[0], len(group) - 1) for group in groups.values()]


def shorten(error: BaseException) -> None:
    """Remove the frames of runmem, Dask and cloudpickle from the tracebacks of `error` and its causes.

    Applies to exceptions of tasks, errors that runmem raises on purpose, and interrupts. Bugs in runmem keep their
    frames.
    """
    from runmem.serialization.task_error import root_task  # imports cloudpickle, needed only by programs with tasks

    is_ours = issubclass(type(error), (RunmemError, KeyboardInterrupt)) or _is_of_wrong_arguments(error)
    if not is_ours and root_task(error) is None:
        return
    folders = _hidden_folders()
    link, seen = error, {id(error)}
    _set(error, "__traceback__", _without(_get(error, "__traceback__"), folders))
    while (before := _printed_before(link)) is not None:
        trace = _without(_get(before, "__traceback__"), folders)
        _set(before, "__traceback__", trace)
        if trace is None or id(before) in seen:  # no frame of the program: the message repeats this error
            _set(link, "__cause__", None)
            _set(link, "__suppress_context__", True)
            return
        seen.add(id(before))
        link = before


def _is_of_wrong_arguments(error: BaseException) -> bool:
    """Return True for the error of a call whose arguments do not fit the task; its type is that of Python."""
    from runmem.graph.signature import TaskSignature

    trace: TracebackType | None = _get(error, "__traceback__")
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is TaskSignature.check.__code__


def _printed_before(error: BaseException) -> BaseException | None:
    """Return the exception that Python prints before this one: its cause or its context."""
    cause: BaseException | None = _get(error, "__cause__")
    if cause is not None or _get(error, "__suppress_context__"):
        return cause
    context: BaseException | None = _get(error, "__context__")
    return context


def _hidden_folders() -> tuple[str, ...]:
    specs = [find_spec(name) for name in _HIDDEN_PACKAGES]
    return tuple(
        os.path.abspath(folder) + os.sep for spec in specs if spec for folder in spec.submodule_search_locations or ()
    )


def _without(trace: TracebackType | None, folders: tuple[str, ...]) -> TracebackType | None:
    """Remove the frames of files in `folders`, and of the standard library below them, from a traceback."""
    kept = []
    inside = False
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        is_standard = file.startswith(_STANDARD_LIBRARY) and "-packages" not in file
        inside = file.startswith(folders) or (inside and is_standard)
        if not inside:
            kept.append(trace)
        trace = trace.tb_next
    return traceback_of(kept)
