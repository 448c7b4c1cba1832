"""Processes forked from this one, each connected to it."""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache, partial
from typing import NoReturn

from runmem.worker.isolation import messages

__all__ = ["ForkedProcess", "describe_exit", "exit_now", "has_exited"]

_PR_SET_PDEATHSIG = 1
_DEFERRED_SIGNALS = {signal.SIGINT, signal.SIGTERM}  # while a process is forked


class ForkedProcess:
    """A process forked from this one, in a process group of its own.

    Parameters
    ----------
    body : callable
        Runs in the process, with its end of the connection. The process exits when this returns.
    others : iterable of socket
        Connections of this process, which the forked one closes.
    dies_with_parent : bool
        Whether the kernel (Linux) kills it when this process dies, which must have one thread only.

    Attributes
    ----------
    pid : int
    connection : socket
    is_connected : bool
        Whether its end of the connection is open, as far as `received` has seen: it may also have been closed by what
        runs in the process.
    """

    def __init__(
        self, body: Callable[[socket.socket], object], others: Iterable[socket.socket] = (),
        dies_with_parent: bool = False,
    ) -> None:  # fmt: skip
        self.connection, its = socket.socketpair()
        self.is_connected = True
        self._data = bytearray()
        die_with_parent = _die_with_parent() if dies_with_parent else None
        parent = os.getpid()
        # Deferred meanwhile: in the child an interrupt must not go up through what the program has on its stack.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _DEFERRED_SIGNALS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the caller has ruled out
                self.pid = os.fork()
            if self.pid == 0:
                if die_with_parent is not None:
                    die_with_parent()
                    if os.getppid() != parent:
                        os._exit(1)
                _run_forked(body, its, [self.connection, *others])
            with suppress(OSError):  # by both processes: whoever is first
                os.setpgid(self.pid, self.pid)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        its.close()

    def send(self, message: bytes) -> None:
        """Send a message. Raises OSError if the process has closed its end of the connection."""
        messages.send(self.connection, message)

    def received(self) -> list[bytes]:
        """Return the whole messages that have come since the last call, and update `is_connected`."""
        if self.is_connected:
            self.is_connected = messages.read_available(self.connection, self._data)
        return messages.split_whole(self._data)

    def has_exited(self) -> bool:
        """Return True if the process has exited, which leaves it to be reaped."""
        return has_exited(self.pid)

    def kill_group(self) -> None:
        """Kill the process, if it still runs, and what it has started. Only before `reap`, which frees its number."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> tuple[int, resource.struct_rusage]:
        """Wait for the process to exit; return its exit code (minus the signal that killed it) and what it used."""
        self.connection.close()
        _, status, usage = os.wait4(self.pid, 0)
        return os.waitstatus_to_exitcode(status), usage


def _run_forked(
    body: Callable[[socket.socket], object], connection: socket.socket, foreign: list[socket.socket]
) -> NoReturn:
    """Run `body` in the forked process, and exit."""
    code = 1
    try:
        for other in foreign:
            other.close()
        with suppress(OSError):
            os.setpgid(0, 0)  # what a call starts ends with it; and an interrupt from a terminal goes to the program
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, lambda *_: None)  # not SIG_IGN, which the programs that a call starts would keep
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _DEFERRED_SIGNALS)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True)
        gc.freeze()
        body(connection)
        code = 0
    except (EOFError, ConnectionError):
        pass  # the other side wants nothing more, or has gone
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        exit_now(code)


def exit_now(code: int) -> NoReturn:
    """End this process without running what the program runs at its end."""
    try:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
    finally:
        os._exit(code)


def has_exited(pid: int) -> bool:
    """Return True if a child process has exited, which leaves it to be waited for."""
    if hasattr(os, "waitid"):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    import psutil  # macOS, before Python 3.13

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@cache
def _die_with_parent() -> Callable[[], object]:
    """Return a function with which a forked process asks the kernel (Linux) to kill it when its parent dies."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    import ctypes

    return partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def describe_exit(code: int) -> str:
    """Return the text for a process that ended with an exit code, or (minus its number) by a signal."""
    if code >= 0:
        return f"its process ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"its process was killed by {name}"
