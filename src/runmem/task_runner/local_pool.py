"""Runs targets on this machine in a pool of processes, which are forked from the program.

::

    program                                       target process, one of N           fresh process
      main thread   fork N processes, wait        receives an index  ── fork ──>     runs the target
      runmem-pool ── index of the next target ──> writes the record  <── result ──   (for each target, or for
      (`_give_out`) <── outcome, losses ───────── sends the outcome                   all until one ends it)
                     one socket for each

The target processes are forked while the program has no threads; then `runmem-pool` sends each its next target. A
target process has no threads either, so that it can fork. It measures and records its targets as a worker does, with a
`WorkerRun`. When its connection to the program is closed, it ends its running target.
"""

from __future__ import annotations

import pickle
import socket
import sys
import threading
import time
from contextlib import suppress

from runmem.errors import RunmemError
from runmem.memory.process import own_process
from runmem.store.node_name import node_name
from runmem.task_runner.target_outcome import TargetOutcome
from runmem.task_runner.target_process import INDEX, PoolWork, TargetProcess
from runmem.worker.isolation import messages
from runmem.worker.isolation.forked_process import ForkedProcess

__all__ = ["LocalPool", "may_fork"]

_LARGEST_PROGRAM_BYTES = 256 * 1024**2
_CLOSE_WAIT_S = 3.0
_DIED = "the target process died"


def may_fork() -> bool:
    """Return True if this process can be forked safely.

    That is on Linux, with only one Python thread and less than 256 MiB resident.

    Threads of numerical libraries do no harm, because they are disabled. Memory of the program would count in the base
    of each target, and in the node's total once for each process.
    """
    is_alone = sys.platform.startswith("linux") and threading.active_count() == 1
    return is_alone and own_process().resident_bytes() < _LARGEST_PROGRAM_BYTES


class LocalPool:
    """Runs all targets. Each process starts on its first target as soon as the pool is created.

    Attributes
    ----------
    outcomes : dict
        Outcomes of the targets, by their index.
    losses : list of (place, what)
        Measurements that were lost.
    """

    def __init__(self, work: PoolWork) -> None:
        self.outcomes: dict[int, TargetOutcome] = {}
        self.losses: list[tuple[str, str]] = []
        self._work = work
        self._next = 0
        self._processes: dict[
            ForkedProcess, int | None
        ] = {}  # index of the target that each process is running; None if idle
        self._failure: RunmemError | None = None
        self._is_over = threading.Event()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()  # else each forked process would write the buffered output again
        for _ in range(work.processes):
            others = [process.connection for process in self._processes]
            process = ForkedProcess(lambda connection: TargetProcess(work, connection).serve(), others)
            self._assign_next(process)
        self._thread = threading.Thread(target=self._give_out, name="runmem-pool", daemon=True)
        self._thread.start()

    def wait(self, deadline: float | None) -> None:
        """Wait until all targets have ended, or until a moment of `time.monotonic()`.

        Raises
        ------
        RunmemError
            If the task cannot be loaded in the target processes.
        """
        left_s = None if deadline is None else min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
        self._is_over.wait(left_s)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End all processes and their running targets, which are then also in `outcomes`."""
        self._next = len(self._work.targets)
        for process in self._processes:
            with suppress(OSError):  # it has exited
                process.connection.shutdown(socket.SHUT_WR)
        self._thread.join(_CLOSE_WAIT_S)
        for process in self._processes:
            process.kill_group()
        self._thread.join()
        for process in self._processes:
            with suppress(ChildProcessError):  # the program ignores the ends of its children
                process.reap()

    def _give_out(self) -> None:
        """Send the processes their targets and receive the outcomes, until all processes have ended."""
        try:
            self._receive_all()
        except Exception as error:
            self._failure = RunmemError(f"the targets cannot be sent to the processes: {type(error).__name__}: {error}")
        self._is_over.set()

    def _receive_all(self) -> None:
        while connected := {process.connection: process for process in self._processes if process.is_connected}:
            for connection in messages.readable(connected, None):
                self._receive(connected[connection])
            if len(self.outcomes) == len(self._work.targets) or self._failure is not None:
                self._is_over.set()
        for index in range(self._next, len(self._work.targets)):  # no process is left for them
            self.outcomes[index] = TargetOutcome(node_name(), None, killed=_DIED)

    def _receive(self, process: ForkedProcess) -> None:
        """Send a process its next target and note the outcome of the last one, or note that the process died."""
        for report in process.received():
            self._assign_next(process)
            index, outcome, losses = pickle.loads(report)
            self.losses += losses
            if isinstance(outcome, RunmemError):
                self._failure = outcome
            else:
                self.outcomes[index] = outcome
        if not process.is_connected and (index := self._processes[process]) is not None:
            self._work.report_death(process.pid, _DIED)
            self.outcomes[index] = TargetOutcome(node_name(), process.pid, killed=_DIED)

    def _assign_next(self, process: ForkedProcess) -> None:
        """Send a process the next target; if none is left, let the process end."""
        self._processes[process] = None
        with suppress(OSError):  # it died after its last target: another process gets this one
            if self._next >= len(self._work.targets):
                process.connection.shutdown(socket.SHUT_WR)
            else:
                process.connection.sendall(INDEX.pack(self._next))
                self._processes[process], self._next = self._next, self._next + 1
