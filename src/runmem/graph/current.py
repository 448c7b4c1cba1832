"""The program that is running in this process, if one is: without one, tasks are plain calls."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runmem.graph.program import Program

__all__ = ["current_program", "set_current_program"]

_current: Program | None = None


def _leave() -> None:
    set_current_program(None)


if hasattr(os, "register_at_fork"):  # the threads that send calls are not in the child: there tasks are plain calls
    os.register_at_fork(after_in_child=_leave)


def current_program() -> Program | None:
    """Return the running program, or None: started with plain ``python``, or inside a task."""
    return _current


def set_current_program(program: Program | None) -> None:
    """Make `program` the one that task calls go to."""
    global _current
    _current = program
