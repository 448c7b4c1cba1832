"""Tracebacks for the user of a program: from the program's first line on, without what lies between its own lines."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from types import TracebackType

from runmem.errors import RunmemError
from runmem.shadowed import without_imports
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
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_US):
        trace = trace.tb_next
    _set(error, "__traceback__", without_imports(trace) or error.__traceback__)
    if not whole:
        shorten(error)
    sys.excepthook(type(error), error, error.__traceback__)
    _print_other_notes(error)


def print_exception(error: BaseException, whole: bool) -> None:
    """Print an exception with its traceback on standard error."""
    if not whole:
        shorten(error)
    say("".join(traceback.format_exception(error)).removesuffix("\n"))
    _print_other_notes(error)


def _print_other_notes(error: BaseException) -> None:
    """Print the notes that Python leaves out, because the class of the exception answers for them."""
    from runmem.serialization.task_error import unprinted_notes  # as in `shorten`

    for note in unprinted_notes(error):
        say(note)


def _set(error: BaseException, name: str, value: object) -> None:
    """Set a field that every exception has, also of one whose class refuses that."""
    vars(BaseException)[name].__set__(error, value)


def alike(errors: Sequence[BaseException]) -> list[tuple[BaseException, int]]:
    """Return the first of the errors of each type and message, and how many more there are of it."""
    from runmem.serialization.error_parts import text_of  # as in `shorten`

    groups: dict[tuple[type, str], list[BaseException]] = {}
    for error in errors:
        groups.setdefault((type(error), text_of(error)), []).append(error)
    return [(group[0], len(group) - 1) for group in groups.values()]


def shorten(error: BaseException) -> None:
    """Take the frames of runmem, Dask and cloudpickle out of the traceback of `error` and of its causes.

    Only where they say nothing: an exception of a task, one that runmem raises on purpose, or an interrupt. A mistake
    in runmem itself keeps its frames.
    """
    from runmem.serialization.task_error import (
        root_task,
    )  # it brings cloudpickle, which only a program with tasks needs

    if not isinstance(error, (RunmemError, KeyboardInterrupt)) and root_task(error) is None:
        return
    folders = _folders()
    _set(error, "__traceback__", _without(error.__traceback__, folders))
    link, seen = error, {id(error)}
    while (before := link.__cause__ or (None if link.__suppress_context__ else link.__context__)) is not None:
        _set(before, "__traceback__", _without(before.__traceback__, folders))
        if before.__traceback__ is None or id(before) in seen:  # all ours: the message tells what it says
            _set(link, "__cause__", None)
            _set(link, "__suppress_context__", True)
            return
        seen.add(id(before))
        link = before


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
