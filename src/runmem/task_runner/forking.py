"""Processes forked from this one, each with a connection to it, and what is read from such connections."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

from runmem.task_runner import messages

__all__ = ["drain", "exit_at_once", "fork", "kill_group", "readable"]

_LONGEST_WAIT_S = 86_400.0  # `poll` takes no more than the clock has
_DEFERRED_SIGNALS = {signal.SIGINT, signal.SIGTERM}  # while a process is forked


def fork(body: Callable[[socket.socket], None], others: Iterable[socket.socket] = ()) -> tuple[int, socket.socket]:
    """Fork a process that calls `body` with its end of a connection and then exits; return its id and our end.

    `others` are connections of ours, which it closes.
    """
    ours, its = socket.socketpair()
    # Deferred meanwhile: in the child an interrupt must not go up through what the program has on its stack.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _DEFERRED_SIGNALS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads: see `may_fork`
            pid = os.fork()
        if pid == 0:
            _be_forked(body, its, [ours, *others])
        with suppress(OSError):  # done by both: whoever is first
            os.setpgid(pid, pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    its.close()
    ours.setblocking(False)
    return pid, ours


def _be_forked(
    body: Callable[[socket.socket], None], connection: socket.socket, foreign: list[socket.socket]
) -> NoReturn:
    code = 1
    try:
        for other in foreign:
            other.close()
        with suppress(OSError):
            os.setpgid(0, 0)  # what a target starts ends with it; and an interrupt from a terminal goes to the program
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, lambda *_: None)  # not ignored: what a target starts would ignore it too
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
        pass  # the other side has ended this process's work, or is gone
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        exit_at_once(code)


def exit_at_once(code: int) -> NoReturn:
    """End this process without what the program does at its end."""
    try:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
    finally:
        os._exit(code)


def kill_group(pid: int) -> None:
    """Kill a process that is not reaped yet, and what it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def readable(connections: Iterable[socket.socket], patience_s: float | None) -> set[socket.socket]:
    """Return the connections that can be read or whose other side is gone; wait for one, at most so many seconds."""
    poll = select.poll()
    by_descriptor = {c.fileno(): c for c in connections}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    found = poll.poll(None if patience_s is None else max(0.0, min(patience_s, _LONGEST_WAIT_S)) * 1000)
    return {by_descriptor[descriptor] for descriptor, _ in found}


def drain(connection: socket.socket, data: bytearray) -> bool:
    """Add all that can be read now to `data`; return whether the other side is still there."""
    try:
        return messages.drain(connection.fileno(), data)
    except ConnectionError:
        return False
