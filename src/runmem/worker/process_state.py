"""The state of the program's process that tasks follow: folder, environment, import path and the like.

A task runs as it would in the program at the time of its call. Workers with several threads do not follow: what is said
here is of a process, and another task may be running in it. Not followed at all: see docs/semantics.md.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import sys
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from runmem.errors import RunmemError
from runmem.shadowed import Shadowing, current_shadowing, library_module, shadow
from runmem.standard_error import say
from runmem.store.node_name import node_name

if TYPE_CHECKING:
    import decimal

__all__ = [
    "FollowedProcess", "ProcessState", "become", "follow", "follow_no_more", "import_paths", "process_of_task",
]  # fmt: skip

_ENCODED: Mapping[bytes, bytes] = getattr(os.environ, "_data", os.environb)
"""The environment as it is kept: comparing `os.environ` itself would decode each name and value."""


_room = ctypes.create_string_buffer(4096)
_getcwd = ctypes.PyDLL(None).getcwd
_getcwd.restype = ctypes.c_void_p


class ProcessState(NamedTuple):
    """What a task follows.

    Attributes
    ----------
    folder : str
        The current folder.
    moved : bool
        Whether the program has changed it since the run began.
    environment : dict
        Value of each variable that the program has changed, as bytes; None: it is gone.
    paths : list of str
        Folders that it imports from, beyond those of the Python installation.
    arguments : list of str
        ``sys.argv``.
    recursion_limit, umask : int
    decimal_context : decimal.Context or None
        None: the program does not use decimals.
    shadowing : Shadowing or None
        Modules of the program that have the names of libraries, if it has some.
    """

    folder: str
    moved: bool
    environment: dict[bytes, bytes | None]
    paths: list[str]
    arguments: list[str]
    recursion_limit: int
    umask: int
    decimal_context: decimal.Context | None
    shadowing: Shadowing | None


def import_paths() -> list[str]:
    """Return the folders that the program imports from, beyond those that every Python of this environment has."""
    # Only its library folders: with the system's Python the prefix is /usr, and a program may lie in /usr/src/app.
    libraries = tuple(os.path.join(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix))
    return [os.path.abspath(path or os.getcwd()) for path in sys.path if not path.startswith(libraries)]


class FollowedProcess:
    """The program's process, looked at from the time this is made.

    Parameters
    ----------
    is_followed : bool
        Whether workers follow it; if not, it is said once that a change does not reach the tasks.
    """

    def __init__(self, is_followed: bool = True) -> None:
        self._says_so = not is_followed
        self._first_folder = _folder()
        self._first_environment = dict(_ENCODED)
        self._changed: set[bytes] = set()
        self._seen: tuple[object, ...] = (None, None, None, None, {}, [], [])
        self._packed = b""

    def packed(self) -> bytes:
        """Return the packed state now; the same object while it is the same."""
        umask = os.umask(0o077)  # the way to read it; a file that another thread makes meanwhile is private, not public
        os.umask(umask)
        now = _folder(), (sys.getrecursionlimit(), umask), _decimal_context(), current_shadowing()
        *before, environment, paths, arguments = self._seen
        # Compared where they are: this is asked at each call.
        if now != tuple(before) or environment != _ENCODED or paths != sys.path or arguments != sys.argv:
            self._seen = (*now, dict(_ENCODED), list(sys.path), list(sys.argv))
            self._packed = pickle.dumps(self._state(*now[:3]), pickle.HIGHEST_PROTOCOL)
        return self._packed

    def _state(self, folder: str, limits: tuple[int, int], context: object) -> ProcessState:
        environment = dict(_ENCODED)
        first = self._first_environment
        self._changed |= {name for name, value in environment.items() if first.get(name) != value}
        self._changed |= first.keys() - environment.keys()
        changed = {name: environment.get(name) for name in self._changed}
        given = None
        if context is not None:
            given = library_module("decimal").getcontext().copy()
            given.clear_flags()
        moved = folder != self._first_folder
        if self._says_so and (moved or changed):
            self._says_so = False
            say(
                "runmem: note: the program has changed its folder or its environment, and its tasks do not follow: the "
                "workers have several threads, and a folder belongs to the process. Start workers with one thread each "
                "(`dask worker --nthreads 1`), or pass paths and values to the tasks."
            )
        return ProcessState(folder, moved, changed, import_paths(), list(sys.argv), *limits, given, current_shadowing())


class _TaskProcess(FollowedProcess):
    """This process, as the task that runs in it has left it, for the calls that the task makes."""

    def __init__(self, follower: _Follower) -> None:
        super().__init__()
        self._follower = follower
        self._first_environment = follower.own_environment

    def _state(self, folder: str, limits: tuple[int, int], context: object) -> ProcessState:
        state = super()._state(folder, limits, context)
        return state._replace(moved=folder != self._follower.folder or self._follower.moved)


class _SameProcess:
    """A process that follows nothing: tasks get what the task that calls them has got."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    def packed(self) -> bytes:
        """Return the packed state."""
        return self._packed


def process_of_task(packed: bytes) -> FollowedProcess | _SameProcess:
    """Return the process of the running task, whose state its calls follow; `packed`: what the task has got."""
    return _TaskProcess(_follower) if packed and _follower is not None else _SameProcess(packed)


def _folder() -> str:
    """Return the current folder, or an empty text if it was removed.

    By C's own function, holding the interpreter: `os.getcwd` lets other threads run meanwhile, and the program, which
    asks at each call of a task, would wait for them each time.
    """
    if _getcwd(_room, len(_room)):
        return os.fsdecode(_room.value)
    try:
        return os.getcwd()
    except OSError:
        return ""


def _decimal_context() -> object:
    """Return the settings of the decimal context, to compare; None if they are Python's own."""
    decimal = library_module("decimal")
    if decimal is None:
        return None
    context, default = decimal.getcontext(), decimal.DefaultContext
    found = (context.prec, context.rounding, context.Emin, context.Emax, context.capitals, context.clamp)
    usual = (default.prec, default.rounding, default.Emin, default.Emax, default.capitals, default.clamp)
    if found == usual and context.traps == default.traps:
        return None
    return found, dict(context.traps)


class _Follower:
    """This process, as far as it follows a program."""

    def __init__(self, elsewhere: bool, import_paths: Collection[str]) -> None:
        self._elsewhere = elsewhere
        self._own_folder = _folder()
        self.own_environment = dict(_ENCODED)
        self._own_paths = [path for path in sys.path if path not in import_paths]
        self._packed = b""
        self.folder: str | None = None
        self._environment: dict[bytes, bytes] = {}
        self._state: ProcessState | None = None

    @property
    def moved(self) -> bool:
        """Whether the program has changed its folder."""
        return self._state is not None and self._state.moved

    def become(self, packed: bytes) -> None:
        """Set a state, also where a task has changed it."""
        if packed != self._packed:
            self._take(_state(packed))
            self._packed = packed
        state = self._state
        assert state is not None
        if state.folder and _folder() != self.folder:
            self._enter(state)
        if self._environment != _ENCODED:
            self._set_environment()
        if sys.argv != state.arguments:
            sys.argv[:] = state.arguments
        if sys.getrecursionlimit() != state.recursion_limit:
            sys.setrecursionlimit(state.recursion_limit)
        os.umask(state.umask)
        if state.decimal_context is not None:
            library_module("decimal").setcontext(state.decimal_context.copy())
        elif _decimal_context() is not None:
            decimal = library_module("decimal")
            decimal.setcontext(decimal.DefaultContext.copy())

    def _take(self, state: ProcessState) -> None:
        self._state, self.folder = state, None
        shadow(state.shadowing)
        self._environment = {
            name: value for name, value in {**self.own_environment, **state.environment}.items() if value is not None
        }
        sys.path[:] = [*state.paths, *(path for path in self._own_paths if path not in state.paths)]

    def _enter(self, state: ProcessState) -> None:
        try:
            os.chdir(state.folder)
        except OSError as error:
            if self._elsewhere and not state.moved:
                os.chdir(self._own_folder)  # the folder that the program was started in is not here
                self.folder = self._own_folder
                return
            raise RunmemError(
                f"the task is to run in the folder that the program was in when it called it, {state.folder!r}, and on "
                f"node {node_name()} it cannot be entered ({error.strerror or error}). Make it there too, or change "
                "back before the call."
            ) from None
        self.folder = _folder()

    def _set_environment(self) -> None:
        for name in [name for name in _ENCODED if name not in self._environment]:
            del os.environb[name]
        for name, value in self._environment.items():
            if _ENCODED.get(name) != value:
                os.environb[name] = value


_follower: _Follower | None = None


def follow(elsewhere: bool, import_paths: Collection[str] = ()) -> None:
    """Make this process follow the program from the next call on.

    Parameters
    ----------
    elsewhere : bool
        Whether it was not started by the program on its own machine: the program's folder may not be here.
    import_paths : collection of str
        Entries of `sys.path` that are the program's.
    """
    global _follower
    _follower = _Follower(elsewhere, import_paths)


def follow_no_more() -> None:
    """Make this process follow no program any more."""
    global _follower
    _follower = None


def become(packed: bytes) -> None:
    """Set the state of the program at the time of a call, if this process follows it.

    Raises
    ------
    RunmemError
        If the program's folder cannot be entered here.
    """
    if not packed:
        return
    if _follower is not None:
        _follower.become(packed)
    else:
        shadow(_state(packed).shadowing)  # which is the same for all threads


@lru_cache(maxsize=16)
def _state(packed: bytes) -> ProcessState:
    state: ProcessState = pickle.loads(packed)
    return state
