"""Tracebacks for the user of a program: from the program's first line on, without what lies between its own lines.

Nothing here runs code of an exception's class: its fields are read as Python itself reads them where it prints one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Any

from runmem.errors import RunmemError
from runmem.shadowed import drop_import_frames
from runmem.standard_error import say

__all__ = ["print_uncaught", "print_exception", "alike", "shorten"]

_INNER = ("runmem", "distributed", "dask", "cloudpickle")
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_US = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def print_uncaught(error: BaseException, whole: bool) -> None:
    """Print an exception that ended the program, by the program's own hook if it has one.

    Parameters
    ----------
    whole : bool
        Whether the frames inside runmem and Dask are printed; those above the program's first line never are.

    Raises
    ------
    SystemExit
        If the program's hook does. Whatever else it raises is printed, as Python does it.
    """
    before: TracebackType | None = _get(error, "__traceback__")
    trace = before
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_US):
        trace = trace.tb_next
    _set(error, "__traceback__", drop_import_frames(trace) or before)
    if not whole:
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
        _set(failure, "__traceback__", trace.tb_next)  # from the hook on
        if _get(failure, "__context__") is error:
            _set(failure, "__context__", None)
        say("Error in sys.excepthook:")
        _print_as_python(failure)
        say("\nOriginal exception was:")
        _print_as_python(error)


def _print_as_python(error: BaseException) -> None:
    sys.__excepthook__(type(error), error, _get(error, "__traceback__"))


def print_exception(error: BaseException, whole: bool) -> None:
    """Print an exception with its traceback on standard error."""
    from runmem.serialization.task_error import traceback_text  # as in `shorten`

    if not whole:
        shorten(error)
    say(traceback_text(error, _get(error, "__traceback__")))
    _print_other_notes(error)


def _print_other_notes(error: BaseException) -> None:
    """Print the notes that Python leaves out, because the class of the exception answers for them."""
    from runmem.serialization.task_error import unprinted_notes  # as in `shorten`

    for note in unprinted_notes(error):
        say(note)


def _get(error: BaseException, name: str) -> Any:
    """Return a field that every exception has, whatever its class says."""
    return vars(BaseException)[name].__get__(error)


def _set(error: BaseException, name: str, value: object) -> None:
    """Set a field that every exception has, also of one whose class refuses that."""
    vars(BaseException)[name].__set__(error, value)


def alike(errors: Sequence[BaseException]) -> list[tuple[BaseException, int]]:
    """Return the first of the errors of each type and message, and how many more there are of it."""
    from runmem.serialization.error_parts import text_of  # as in `shorten`

    groups: dict[tuple[int, str], list[BaseException]] = {}
    for error in errors:
        groups.setdefault((id(type(error)), text_of(error)), []).append(error)
    return [(group[0], len(group) - 1) for group in groups.values()]


def shorten(error: BaseException) -> None:
    """Take the frames of runmem, Dask and cloudpickle out of the traceback of `error` and of its causes.

    Only where they say nothing: an exception of a task, one that runmem raises on purpose, or an interrupt. A mistake
    in runmem itself keeps its frames.
    """
    from runmem.serialization.task_error import (
        root_task,
    )  # it brings cloudpickle, which only a program with tasks needs

    if not issubclass(type(error), (RunmemError, KeyboardInterrupt)) and root_task(error) is None:
        return
    folders = _folders()
    link, seen = error, {id(error)}
    _set(error, "__traceback__", _without(_get(error, "__traceback__"), folders))
    while (before := _shown_before(link)) is not None:
        trace = _without(_get(before, "__traceback__"), folders)
        _set(before, "__traceback__", trace)
        if trace is None or id(before) in seen:  # all ours: the message tells what it says
            _set(link, "__cause__", None)
            _set(link, "__suppress_context__", True)
            return
        seen.add(id(before))
        link = before


def _shown_before(error: BaseException) -> BaseException | None:
    """Return the exception that Python prints before this one: what it was raised from, or while that was handled."""
    cause: BaseException | None = _get(error, "__cause__")
    if cause is not None or _get(error, "__suppress_context__"):
        return cause
    context: BaseException | None = _get(error, "__context__")
    return context


def _folders() -> tuple[str, ...]:
    specs = [find_spec(name) for name in _INNER]
    return tuple(
        os.path.abspath(folder) + os.sep for spec in specs if spec for folder in spec.submodule_search_locations or ()
    )


def _without(trace: TracebackType | None, folders: tuple[str, ...]) -> TracebackType | None:
    """Return the traceback without the frames of files in `folders`, nor those of the library that they call into."""
    kept = []
    inside = False  # a frame of Python's own library belongs to whoever called it
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        library = file.startswith(_LIBRARY) and "-packages" not in file
        inside = file.startswith(folders) or (inside and library)
        if not inside:
            kept.append(trace)
        trace = trace.tb_next
    result: TracebackType | None = None
    for frame in reversed(kept):
        result = TracebackType(result, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return result
