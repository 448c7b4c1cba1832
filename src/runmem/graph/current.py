"""The program that is running in this process, if one is: without one, tasks are plain calls.

A thread that runs a task which may call tasks has a program of its own, for the calls that this one call makes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runmem.graph.program import Program

__all__ = ["current_program", "no_program", "program_of_thread", "set_current_program"]


class _OfThread(threading.local):
    program: Program | None = None


_current: Program | None = None
_of_thread = _OfThread()


def _leave() -> None:
    set_current_program(None)
    _of_thread.program = None


if hasattr(os, "register_at_fork"):  # the threads that send calls are not in the child: there tasks are plain calls
    os.register_at_fork(after_in_child=_leave)


def current_program() -> Program | None:
    """Return the running program, or None: started with plain ``python``, or inside a task that calls none."""
    return _of_thread.program or _current


def set_current_program(program: Program | None) -> None:
    """Make `program` the one that task calls go to."""
    global _current
    _current = program


@contextmanager
def no_program() -> Iterator[None]:
    """Make task calls of this thread plain calls, inside the block."""
    global _current
    before = _current, _of_thread.program
    _current = _of_thread.program = None
    try:
        yield
    finally:
        _current, _of_thread.program = before


@contextmanager
def program_of_thread(program: Program) -> Iterator[None]:
    """Make `program` the one that task calls of this thread go to, inside the block."""
    before = _of_thread.program
    _of_thread.program = program
    try:
        yield
    finally:
        _of_thread.program = before
