"""Targets on this machine: a pool of processes forked from the program, for as long as there are targets.

    program ──────── dispatcher ──┬── target process ── a fresh process for each target, if targets are isolated
      reads outcomes   no threads └── target process

The program forks the dispatcher, which forks the target processes and gives each its next target. So it always knows
which target a process had that died, and can fork another one in its place: it has no threads, and the program soon
does. A target process measures and records its targets as a worker does, with a `WorkerRun`. Two processes are linked
by one connection; a process whose connection is closed ends what it runs.
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
from runmem.task_runner.target_outcome import TargetOutcome
from runmem.task_runner.target_process import INDEX, PoolWork, TargetProcess, TargetReport
from runmem.worker.isolation import messages
from runmem.worker.isolation.forked_process import ForkedProcess, describe_exit

__all__ = ["LocalPool", "may_fork"]

_LARGEST_PROGRAM_BYTES = 256 * 1024**2
_MEMORY_SHARE = 0.95  # of its limit; a process that uses more is ended, as Dask ends a worker
_CHECK_INTERVAL_S = 0.2  # between two checks of the memory of the processes, and of whether they are alive
_EXIT_POLL_S = 0.005
_EXIT_WAIT_S = 1.0
_DISPATCHER_WAIT_S = 3.0
_GIVEN_UP = "the program has given up its targets"


def may_fork() -> bool:
    """Return True if this process can be forked safely: Linux, no second thread of Python's, at most 256 MiB.

    The numerical libraries' own threads are no obstacle, as they are turned off. The program's own memory would be in
    the base of each target, and in the node's total once for each process.
    """
    is_alone = sys.platform.startswith("linux") and threading.active_count() == 1
    return is_alone and own_process().resident_bytes() < _LARGEST_PROGRAM_BYTES


class LocalPool:
    """The program's side of a pool, whose processes begin with their targets at once.

    Attributes
    ----------
    outcomes : dict
        How targets have ended, by their index.
    results : dict
        Results of targets, by their index; without those that could not be unpickled.
    losses : list of (place, what)
        What was not measured.

    Raises
    ------
    RunmemError
        By `wait`, if the task cannot be loaded in the target processes.
    """

    def __init__(self, work: PoolWork) -> None:
        self.outcomes: dict[int, TargetOutcome] = {}
        self.results: dict[int, Any] = {}
        self.losses: list[tuple[str, str]] = []
        self._work = work
        self._reports: list[bytes] = []
        self._is_closing = False
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()  # else each process would write it once more
        self._dispatcher = ForkedProcess(lambda connection: _Dispatcher(work, connection).serve())

    def wait(self, deadline: float | None) -> None:
        """Wait until all targets have ended, or until a moment of `time.monotonic()`."""
        while len(self.outcomes) < len(self._work.targets) and (deadline is None or time.monotonic() < deadline):
            self._receive(None if deadline is None else deadline - time.monotonic())
            if not self._dispatcher.is_connected:
                for index in range(len(self._work.targets)):
                    self.outcomes.setdefault(index, _killed(0, "the process that gives out the targets died"))

    def close(self) -> None:
        """End all processes, with the targets that they run, which are then in `outcomes` like the others."""
        self._is_closing = True
        if len(self.outcomes) < len(self._work.targets):
            self._dispatcher.connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _DISPATCHER_WAIT_S
        while self._dispatcher.is_connected and (left_s := deadline - time.monotonic()) > 0:
            self._receive(left_s)
        if self._dispatcher.is_connected:
            self._dispatcher.kill_group()
        with suppress(ChildProcessError):  # the program ignores the ends of its children
            self._dispatcher.reap()

    def _receive(self, timeout_s: float | None) -> None:
        """Process the reports of the dispatcher; wait for one first, at most so many seconds."""
        if messages.readable([self._dispatcher.connection], timeout_s):
            self._reports += self._dispatcher.received()
            while self._reports:
                self._process(*pickle.loads(self._reports[0]))
                del self._reports[0]  # now: an interrupt may have come before

    def _process(self, index: int, outcome: TargetOutcome | RunmemError, losses: list[tuple[str, str]]) -> None:
        self.losses += losses
        if isinstance(outcome, RunmemError):
            if not self._is_closing:
                raise outcome
            return
        if outcome.value is not None and not self._is_closing:
            with suppress(Exception):  # raised where the results are wanted
                self.results[index] = pickle.loads(outcome.value)
                outcome = outcome._replace(value=b"")  # it may be large, and is here now
        self.outcomes[index] = outcome


def _killed(pid: int, reason: str) -> TargetOutcome:
    return TargetOutcome(node_name(), pid or None, killed=reason)


# --- the process that gives out the targets ---------------------------------------------------------------------------


class _Dispatcher:
    """Gives the next target to each process that has none, and reports to the program how targets ended."""

    def __init__(self, work: PoolWork, program: socket.socket) -> None:
        self._work = work
        self._program = program
        self._next = 0
        self._processes: dict[ForkedProcess, int | None] = {}  # the target that each was given and has not ended
        self._kill_reasons: dict[int, str] = {}  # by process id, of processes that were ended from here
        self._oom_kills = oom_kill_count()
        self._checked_s = time.monotonic()

    def serve(self) -> None:
        """Run all targets. Raises EOFError, when all processes have ended, if the program closed the pool or died."""
        try:
            for _ in range(self._work.processes):
                self._start_process()
            while self._processes:
                self._step()
        finally:
            self._end_all()

    def _step(self) -> None:
        """Wait until there is something to do, and do it."""
        talking = [process for process in self._processes if process.is_connected]
        timeout_s = _CHECK_INTERVAL_S if len(talking) == len(self._processes) else _EXIT_POLL_S
        ready = messages.readable([self._program, *(process.connection for process in talking)], timeout_s)
        if self._program in ready:
            raise EOFError  # the program sends nothing
        for process in talking:
            if process.connection in ready:
                self._pass_on_reports(process)
        is_due = time.monotonic() - self._checked_s > _CHECK_INTERVAL_S
        for process in list(self._processes):
            # One that died without notice has left its connection to a process that it had started.
            if (is_due or not process.is_connected) and process.has_exited():
                self._pass_on_reports(process)
                self._remove(process)
        if is_due:
            self._checked_s = time.monotonic()
            self._check_memory()

    def _start_process(self) -> None:
        process = ForkedProcess(
            lambda connection: TargetProcess(self._work, connection).serve(),
            [self._program, *(process.connection for process in self._processes)],
            dies_with_parent=not self._work.is_isolated,  # else it ends its target first
        )
        self._assign_next(process)

    def _assign_next(self, process: ForkedProcess) -> None:
        """Give a process the next target; without one let it end."""
        self._processes[process] = None
        with suppress(OSError):  # it has died after the last target: another process takes this one
            if self._next == len(self._work.targets):
                process.connection.shutdown(socket.SHUT_WR)
            else:
                process.connection.sendall(INDEX.pack(self._next))
                self._processes[process], self._next = self._next, self._next + 1

    def _pass_on_reports(self, process: ForkedProcess) -> None:
        """Report to the program how the target of a process has ended, once the process has the next one."""
        for report in process.received():
            self._assign_next(process)
            messages.send(self._program, report)

    def _remove(self, process: ForkedProcess) -> None:
        """Forget a process that has exited, and report its target, if it had one; start another process if need be."""
        index = self._processes[process]
        del self._processes[process]
        if index is not None:
            process.kill_group()  # what its target has started
        code, _ = process.reap()
        if index is not None:
            self._report_death(process, index, self._kill_reasons.pop(process.pid, "") or self._cause(code))
        if self._next < len(self._work.targets):
            self._start_process()

    def _report_death(self, process: ForkedProcess, index: int, reason: str) -> None:
        """Report to the records and to the program that a target has died with its process."""
        self._work.report_death(process.pid, reason)
        text = f"task {self._work.task.name} (call {index + 1}): {reason}"
        report: TargetReport = index, _killed(process.pid, text), []
        messages.send(self._program, pickle.dumps(report))

    def _cause(self, code: int) -> str:
        before, self._oom_kills = self._oom_kills, oom_kill_count()
        if code == -signal.SIGKILL and None not in (before, self._oom_kills) and before != self._oom_kills:
            return "the kernel's out-of-memory killer ended its process (signal 9)"
        return describe_exit(code)

    def _check_memory(self) -> None:
        """End a process that uses nearly all that it may, as Dask's nanny ends a worker."""
        limit_bytes = self._work.memory_limit_bytes
        if limit_bytes is None or self._work.is_isolated:
            return
        for process in self._processes:
            if (resident_bytes_of(process.pid) or 0) > _MEMORY_SHARE * limit_bytes:
                share = f"{_MEMORY_SHARE * 100:.0f} %"
                self._kill_reasons[process.pid] = f"its process used more than {share} of its memory limit"
                os.kill(process.pid, signal.SIGKILL)

    def _end_all(self) -> None:
        """End the processes that still run; none does after the last target has ended."""
        for process in self._processes:
            process.connection.close()  # a process whose target is isolated ends that, with all that it has started
            if not self._work.is_isolated:
                process.kill_group()
        deadline = time.monotonic() + _EXIT_WAIT_S
        for process, index in self._processes.items():
            while not process.has_exited() and time.monotonic() < deadline:
                time.sleep(_EXIT_POLL_S)
            process.kill_group()
            process.reap()
            if index is not None:
                with suppress(OSError):  # the program may be gone
                    self._report_death(process, index, _GIVEN_UP)
