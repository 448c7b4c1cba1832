"""Targets on this machine: a pool of processes forked from the program, for as long as there are targets.

    program ──────── dispatcher ──┬── target process ── one child for each target, if targets are isolated
      reads outcomes   no threads └── target process

The program forks the dispatcher, which forks the target processes and gives each its next target. So it always knows
which target a process had that died, and can fork another one in its place: it has no threads, and the program soon
does. A target process measures and records its targets as a worker does, with a `WorkerRun`. Between two processes
there is one connection; who finds its own closed ends what it runs.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from runmem.errors import RunmemError
from runmem.memory.limits import oom_kill_count
from runmem.memory.process import own_process, resident_bytes_of
from runmem.store.node_name import node_name
from runmem.task_runner import messages
from runmem.task_runner.fork_server import has_exited, how_it_died
from runmem.task_runner.forking import drain, fork, kill_group, readable
from runmem.task_runner.isolation import GIVEN_UP, Ended
from runmem.task_runner.target_process import INDEX, PoolWork, TargetProcess, TargetReport

__all__ = ["LocalPool", "may_fork"]

_LARGEST_PROGRAM_BYTES = 256 * 1024**2
_MEMORY_SHARE = 0.95  # of its limit; a process that uses more is ended, as Dask ends a worker
_CHECK_INTERVAL_S = 0.2  # between two looks at the memory of the processes, and at whether they are alive
_EXIT_POLL_S = 0.005
_END_PATIENCE_S = 1.0
_DISPATCHER_PATIENCE_S = 3.0


def may_fork() -> bool:
    """Tell whether this process can be forked safely: Linux, no second thread of Python's, at most 256 MiB.

    The numerical libraries' own threads are no obstacle, as they are turned off. What the program holds would be in
    the base of each target, and in the node's total once for each process.
    """
    is_alone = sys.platform.startswith("linux") and threading.active_count() == 1
    return is_alone and own_process().resident_bytes() < _LARGEST_PROGRAM_BYTES


class LocalPool:
    """The program's side of a pool, whose processes begin with their targets at once.

    Attributes
    ----------
    ended : dict
        How targets have ended, by their index.
    results : dict
        What targets returned, by their index; without those that could not be unpickled.
    losses : list of (place, what)
        What was not measured.

    Raises
    ------
    RunmemError
        By `wait`, if the task cannot be loaded in the target processes.
    """

    def __init__(self, work: PoolWork) -> None:
        self.ended: dict[int, Ended] = {}
        self.results: dict[int, Any] = {}
        self.losses: list[tuple[str, str]] = []
        self._work = work
        self._data = bytearray()
        self._waiting: list[bytes] = []
        self._is_closing = False
        self._has_dispatcher = True
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()  # else each process would write it once more
        self._pid, self._connection = fork(lambda connection: _Dispatcher(work, connection).serve())

    def wait(self, until_s: float | None) -> None:
        """Wait until all targets have ended, or until a time in seconds since the epoch."""
        while len(self.ended) < len(self._work.targets) and (until_s is None or time.time() < until_s):
            self._receive(None if until_s is None else until_s - time.time())
            if not self._has_dispatcher:
                self._end_what_is_left("the process that gives out the targets died")

    def close(self) -> None:
        """End all processes, with the targets that they run, which are then in `ended` like the others."""
        self._is_closing = True
        if len(self.ended) < len(self._work.targets):
            self._connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _DISPATCHER_PATIENCE_S
        while self._has_dispatcher and (left_s := deadline - time.monotonic()) > 0:
            self._receive(left_s)
        self._connection.close()
        if self._has_dispatcher:
            kill_group(self._pid)
        with suppress(ChildProcessError):  # the program does not want to know of its children
            os.waitpid(self._pid, 0)

    def _receive(self, patience_s: float | None) -> None:
        """Take what has come from the dispatcher; wait for it first, at most so many seconds."""
        if readable([self._connection], patience_s):
            self._has_dispatcher = drain(self._connection, self._data)
            self._waiting += messages.taken_out(self._data)
            while self._waiting:
                self._take(*pickle.loads(self._waiting[0]))
                del self._waiting[0]  # now: an interrupt may have come before

    def _take(self, index: int, ended: Ended | RunmemError, losses: list[tuple[str, str]]) -> None:
        self.losses += losses
        if isinstance(ended, RunmemError):
            if not self._is_closing:
                raise ended
            return
        if ended.value is not None and not self._is_closing:
            with suppress(Exception):  # raised where the results are wanted
                self.results[index] = pickle.loads(ended.value)
                ended = ended._replace(value=b"")  # it may be large, and is here now
        self.ended[index] = ended

    def _end_what_is_left(self, reason: str) -> None:
        for index in range(len(self._work.targets)):
            self.ended.setdefault(index, _killed(0, reason))


def _killed(pid: int, reason: str) -> Ended:
    return Ended(node_name(), pid, None, None, [], reason, False)


# --- the process that gives out the targets ---------------------------------------------------------------------------


class _Running:
    """A target process, seen from the dispatcher.

    Attributes
    ----------
    index : int or None
        The target that it was given and has not ended.
    is_disconnected : bool
        Whether it has closed its end of the connection: it has exited, or its target has closed all files.
    """

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.connection = connection
        self.data = bytearray()
        self.index: int | None = None
        self.is_disconnected = False


class _Dispatcher:
    """Gives the next target to each process that has none, and passes on to the program how targets ended."""

    def __init__(self, work: PoolWork, program: socket.socket) -> None:
        self._work = work
        self._program = program
        self._next = 0
        self._running: list[_Running] = []
        self._kill_reasons: dict[int, str] = {}  # by process id, of processes that were ended from here
        self._oom_kills = oom_kill_count()
        self._checked_s = time.monotonic()

    def serve(self) -> None:
        """Run all targets. Raises EOFError, when all processes have ended, if the program closed the pool or died."""
        try:
            for _ in range(self._work.processes):
                self._start_process()
            while self._running:
                self._step()
        finally:
            self._end_all()

    def _step(self) -> None:
        """Wait until there is something to do, and do it."""
        talking = [process for process in self._running if not process.is_disconnected]
        patience_s = _CHECK_INTERVAL_S if len(talking) == len(self._running) else _EXIT_POLL_S
        ready = readable([self._program, *(process.connection for process in talking)], patience_s)
        if self._program in ready:
            raise EOFError  # the program sends nothing
        for process in talking:
            if process.connection in ready:
                self._take_reports(process)
        is_due = time.monotonic() - self._checked_s > _CHECK_INTERVAL_S
        for process in list(self._running):
            # One that died without notice has left its connection to a process that it had started.
            if (process.is_disconnected or is_due) and has_exited(process.pid):
                self._take_reports(process)
                self._remove(process)
        if is_due:
            self._checked_s = time.monotonic()
            self._check_memory()

    def _start_process(self) -> None:
        others = [self._program, *(process.connection for process in self._running)]
        process = _Running(*fork(lambda connection: TargetProcess(self._work, connection).serve(), others))
        self._running.append(process)
        self._assign_next(process)

    def _assign_next(self, process: _Running) -> None:
        """Give a process the next target; without one let it end."""
        process.index = None
        with suppress(OSError):  # it has died after the last target: another process takes this one
            if self._next == len(self._work.targets):
                process.connection.shutdown(socket.SHUT_WR)
            else:
                process.connection.sendall(INDEX.pack(self._next))
                process.index, self._next = self._next, self._next + 1

    def _take_reports(self, process: _Running) -> None:
        """Pass on how the target of a process has ended, once the process has the next one."""
        process.is_disconnected = not drain(process.connection, process.data)
        for message in messages.taken_out(process.data):
            self._assign_next(process)
            messages.send(self._program.fileno(), message)

    def _remove(self, process: _Running) -> None:
        """Forget a process that has exited, and report its target, if it had one; start another process if need be."""
        if process.index is not None:
            kill_group(process.pid)  # what its target has started; until it is reaped its number cannot be another's
        _, status = os.waitpid(process.pid, 0)
        self._running.remove(process)
        process.connection.close()
        if process.index is not None:
            reason = self._kill_reasons.pop(process.pid, None) or self._cause(os.waitstatus_to_exitcode(status))
            self._report_death(process, reason)
        if self._next < len(self._work.targets):
            self._start_process()

    def _report_death(self, process: _Running, reason: str) -> None:
        """Report to the records and to the program that a target has died with its process."""
        assert process.index is not None
        self._work.report_death(process.pid, reason)
        text = f"task {self._work.task.name} (call {process.index + 1}): {reason}"
        report: TargetReport = process.index, _killed(process.pid, text), []
        messages.send(self._program.fileno(), pickle.dumps(report))

    def _cause(self, code: int) -> str:
        before, self._oom_kills = self._oom_kills, oom_kill_count()
        if code == -signal.SIGKILL and None not in (before, self._oom_kills) and before != self._oom_kills:
            return "the kernel's out-of-memory killer ended its process (signal 9)"
        return how_it_died(code)

    def _check_memory(self) -> None:
        """End a process that uses nearly all that it may, as Dask's nanny ends a worker."""
        limit_bytes = self._work.memory_limit_bytes
        if limit_bytes is None or self._work.task.isolate:
            return
        for process in self._running:
            if (resident_bytes_of(process.pid) or 0) > _MEMORY_SHARE * limit_bytes:
                share = f"{_MEMORY_SHARE * 100:.0f} %"
                self._kill_reasons[process.pid] = f"its process used more than {share} of its memory limit"
                os.kill(process.pid, signal.SIGKILL)

    def _end_all(self) -> None:
        """End what still runs; nothing does after the last target has ended."""
        for process in self._running:
            process.connection.close()  # a process whose target is isolated ends that, with all that it has started
            if not self._work.task.isolate:
                kill_group(process.pid)
        deadline = time.monotonic() + _END_PATIENCE_S
        for process in self._running:
            while not has_exited(process.pid) and time.monotonic() < deadline:
                time.sleep(_EXIT_POLL_S)
            kill_group(process.pid)
            os.waitpid(process.pid, 0)
            if process.index is not None:
                with suppress(OSError):  # the program may be gone
                    self._report_death(process, GIVEN_UP)
