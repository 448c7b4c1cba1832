"""Ends the worker processes of a node that run a call whose time is up.

It runs in the process of their nannies: a worker may be stopped, or busy in compiled code, and cannot see to it itself.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import dropwhile
from typing import Protocol

import psutil

from runmem.store.layout import Spool
from runmem.store.node_name import node_name
from runmem.worker.isolation.time_limit import STACK_SIGNAL, LimitedCall, give_up, limited_calls, time_is_up

log = logging.getLogger(__name__)

__all__ = ["Watched", "Watchdog", "stack_of_thread"]

_CHECK_INTERVAL_S = 0.25
_STACK_WAIT_S = 1.0  # for a process to write its stacks
_CANCEL_WAIT_S = 0.3  # for the master to cancel the call: Dask would give it to another worker
_HEADING = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+).*$", re.MULTILINE)
_FRAME = re.compile(r'  File "(.*)", line (\d+) in (.*)')
_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep


class Watched(Protocol):
    """A Dask nanny, whose worker is watched."""

    pid: int | None


class Watchdog:
    """Watches over the workers of the nannies in this process.

    Parameters
    ----------
    spool : Spool
        Where workers write which of their calls have a limit.
    note_death : callable
        Takes which process is ended, why, and (`task_id`, `stack`) for which call, and where that was.
    report : callable
        Reports to the master, through a nanny, which call is to fail.
    look : callable
        Called at each check with the process ids of the workers.

    Attributes
    ----------
    nannies : list of Watched
    """

    def __init__(
        self,
        spool: Spool,
        note_death: Callable[..., object],
        report: Callable[[object, dict[str, object]], object],
        look: Callable[[list[int]], object] = lambda pids: None,
    ) -> None:
        self._spool, self._note_death, self._report, self._look = spool, note_death, report, look
        self.nannies: list[Watched] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="runmem-watchdog", daemon=True)
        self._thread.start()

    def add(self, nanny: Watched) -> None:
        """Watch over the worker of a nanny too, and over those that take its place."""
        self.nannies.append(nanny)

    def close(self) -> None:
        """Watch no longer."""
        self._closing.set()
        self._thread.join(timeout=_STACK_WAIT_S + _CANCEL_WAIT_S + 1)

    def _loop(self) -> None:
        while not self._closing.wait(_CHECK_INTERVAL_S):
            try:
                self._look([pid for nanny in self.nannies if (pid := nanny.pid) is not None])
            except Exception:
                log.exception("the facts about this node are not known if a worker dies")
            for nanny in self.nannies:
                try:
                    self._check(nanny)
                except Exception:
                    log.exception("a call whose time is up may go on")

    def _check(self, nanny: Watched) -> None:
        if (pid := nanny.pid) is None:
            return
        for call in limited_calls(self._spool.limits(pid)):
            if call.deadline_s <= time.monotonic():
                self._end(nanny, pid, call)

    def _end(self, nanny: Watched, pid: int, call: LimitedCall) -> None:
        """End a worker process whose call has taken too long."""
        try:
            if not give_up(self._spool.limits(pid), call):
                return  # it has ended at the last moment
            stack = stack_of_thread(self._stacks(pid), call.thread)
            message = {"timed_out": call.task_id, "limit_s": call.limit_s, "stack": stack}
            self._report(nanny, {**message, "node": node_name(), "pid": pid})
            self._note_death(pid, time_is_up(call.limit_s), task_id=call.task_id, stack=stack)
            self._closing.wait(_CANCEL_WAIT_S)
            _end_with_descendants(pid)
        except (psutil.NoSuchProcess, ProcessLookupError):  # it has ended by itself
            return

    def _stacks(self, pid: int) -> str:
        """Make a process write the stacks of its threads, and return them; empty if it writes nothing in time."""
        path = self._spool.stacks(pid)
        before = path.stat().st_size if path.exists() else 0
        os.kill(pid, STACK_SIGNAL)
        os.kill(pid, signal.SIGCONT)  # it may be stopped
        deadline, size = time.monotonic() + _STACK_WAIT_S, before
        while time.monotonic() < deadline:
            time.sleep(0.02)
            last, size = size, path.stat().st_size if path.exists() else 0
            if last == size > before:
                break
        with suppress(OSError):
            return path.read_bytes()[before:].decode(errors="replace")
        return ""


def _end_with_descendants(pid: int) -> None:
    """End a process at once, and ask to end what it has started: nobody else will."""
    process = psutil.Process(pid)
    descendants = process.children(recursive=True)
    process.kill()
    for descendant in descendants:
        with suppress(psutil.Error):
            descendant.terminate()
            descendant.resume()


def stack_of_thread(stacks: str, thread: int) -> str | None:
    """Return the stack of a thread in the form of a traceback, without the frames of runmem and Dask above the task's.

    Parameters
    ----------
    stacks : str
        Text of `faulthandler` for all threads of a process.
    thread : int
        Identifier of the thread.

    Returns
    -------
    str or None
        One line a frame, the innermost last. None if the text has no such thread, or it runs no task.
    """
    parts = _HEADING.split(stacks)
    for ident, text in zip(parts[1::2], parts[2::2], strict=True):
        if int(ident, 16) == thread:
            frames = _FRAME.findall(text)
            outermost_first = reversed(frames)
            below = dropwhile(_is_ours, dropwhile(lambda frame: not _is_ours(frame), outermost_first))
            lines = [f'  File "{file}", line {line}, in {name}' for file, line, name in below]
            return "\n".join(lines) or None
    return None


def _is_ours(frame: tuple[str, str, str]) -> bool:
    return frame[0].startswith(_PACKAGE)
