"""Puts a value in the place of a future, in all variables, lists, dictionaries and objects of the program."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import MutableMapping
from types import CellType, FrameType

from runmem.graph.future import Future

__all__ = ["put_in_place"]

_OURS = "runmem"


def put_in_place(future: Future, value: object) -> None:
    """Let the program's references to a future refer to its value from now on.

    Those in tuples and sets, and in suspended generators and coroutines, stay as they are.
    """
    for holder in gc.get_referrers(future):
        if isinstance(holder, CellType):
            if holder.cell_contents is future:
                holder.cell_contents = value
        elif isinstance(holder, list):
            for place, item in enumerate(holder):
                if item is future:
                    holder[place] = value
        else:
            _put_into(holder if isinstance(holder, dict) else _attributes(holder), future, value)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        _put_into_variables(frame, future, value)
        frame = frame.f_back


def _attributes(holder: object) -> dict[str, object]:
    is_ours = type(holder).__module__.partition(".")[0] == _OURS
    found = {} if is_ours else getattr(holder, "__dict__", {})
    return found if isinstance(found, dict) else {}


def _put_into(names: MutableMapping[str, object], future: Future, value: object) -> bool:
    """Replace the values of names; return whether there were any."""
    found = [name for name, each in list(names.items()) if each is future]
    for name in found:
        names[name] = value
    return bool(found)


def _put_into_variables(frame: FrameType, future: Future, value: object) -> None:
    if frame.f_globals.get("__name__", "").partition(".")[0] == _OURS:
        return
    if _put_into(frame.f_locals, future, value) and sys.version_info < (
        3,
        13,
    ):  # `f_locals` was a copy of a function's variables
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
