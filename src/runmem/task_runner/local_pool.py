"""Targets on this machine: a pool of processes forked from the program, for as long as there are targets.

    program ──────── dispatcher ──┬── target process ── one child for each target, if targets are isolated
      reads outcomes   no threads └── target process

The program forks the dispatcher, which forks the target processes and gives each its next target. So it always knows
which target a process had that died, and can fork another one in its place: it has no threads, and the program soon
does. A target process measures and records its targets as a worker does, with a `WorkerRun`. Between two processes
there is one connection; who finds its own closed ends what it runs.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from runmem.errors import RunmemError
from runmem.execution.worker_run import RunOnWorkers, WorkerRun, worker_runs
from runmem.memory.limits import oom_kill_count
from runmem.memory.lsst_timer import correct_lsst_timer
from runmem.memory.process import own_process, resident_bytes_of
from runmem.memory.profile_report import set_report_sink
from runmem.store.node_name import node_name
from runmem.task_runner import messages
from runmem.task_runner.fork_server import (
    Children,
    Outcome,
    ServerSetup,
    call_runner,
    die_with_parent,
    has_exited,
    how_it_died,
    set_logging,
)
from runmem.task_runner.isolation import GIVEN_UP, Ended, copier, run_limited
from runmem.task_runner.target_task import TargetTask

__all__ = ["LocalPool", "PoolWork", "may_fork"]

_LARGEST_PROGRAM_BYTES = 256 * 1024**2
_MEMORY_SHARE = 0.95  # of its limit; a process that uses more is ended, as Dask ends a worker
_CHECK_INTERVAL_S = 0.2  # between two looks at the memory of the processes, and at whether they are alive
_EXIT_POLL_S = 0.005
_LONGEST_WAIT_S = 86_400.0  # `poll` takes no more than the clock has
_END_PATIENCE_S = 1.0
_DISPATCHER_PATIENCE_S = 3.0
_INDEX = struct.Struct("=I")
_Told = tuple[int, Ended | RunmemError, list[tuple[str, str]]]  # index of a target, how it ended, what was not measured
_DEFERRED_SIGNALS = {signal.SIGINT, signal.SIGTERM}  # while a process is forked


def may_fork() -> bool:
    """Tell whether this process can be forked safely: Linux, no second thread of Python's, at most 256 MiB.

    The numerical libraries' own threads are no obstacle, as they are turned off. What the program holds would be in
    the base of each target, and in the node's total once for each process.
    """
    is_alone = sys.platform.startswith("linux") and threading.active_count() == 1
    return is_alone and own_process().resident_bytes() < _LARGEST_PROGRAM_BYTES


class PoolWork(NamedTuple):
    """What a pool is to do.

    Attributes
    ----------
    task : TargetTask
        The task that the records name.
    targets : sequence of (data id, target)
        As `packed_arguments` returns them. The record of the first has number 1.
    processes : int
        How many targets may run at the same time.
    limit_s, deadline_s : float or None
        See `run_target`.
    run : RunOnWorkers
        The run that records the targets.
    memory_limit_bytes : int or None
        What a target process may use. Stands in the records; holds for targets that are not isolated.
    report_death : callable
        Takes a process id and why that process died, for the record of its target.
    """

    task: TargetTask
    targets: Sequence[tuple[str, bytes]]
    processes: int
    limit_s: float | None
    deadline_s: float | None
    run: RunOnWorkers
    memory_limit_bytes: int | None
    report_death: Callable[[int, str], None]


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
        self._is_closing = False
        self._has_dispatcher = True
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()  # else each process would write it once more
        self._pid, self._line = _fork(lambda line: _Dispatcher(work, line).serve())

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
            self._line.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _DISPATCHER_PATIENCE_S
        while self._has_dispatcher and (left_s := deadline - time.monotonic()) > 0:
            self._receive(left_s)
        self._line.close()
        if self._has_dispatcher:
            _kill_group(self._pid)
        with suppress(ChildProcessError):  # the program does not want to know of its children
            os.waitpid(self._pid, 0)

    def _receive(self, patience_s: float | None) -> None:
        """Take what has come from the dispatcher; wait for it first, at most so many seconds."""
        if _readable([self._line], patience_s):
            self._has_dispatcher = _drain(self._line, self._data)
            for message in messages.taken_out(self._data):
                self._take(*pickle.loads(message))

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
    is_silent : bool
        Whether it has closed its end of the connection: it has exited, or its target has closed all files.
    """

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self.line = line
        self.data = bytearray()
        self.index: int | None = None
        self.is_silent = False


class _Dispatcher:
    """Gives the next target to each process that has none, and tells the program how targets ended."""

    def __init__(self, work: PoolWork, program: socket.socket) -> None:
        self._work = work
        self._program = program
        self._next = 0
        self._running: list[_Running] = []
        self._kill_reasons: dict[int, str] = {}  # by process id, of processes that were ended from here
        self._oom_kills = oom_kill_count()
        self._checked_s = time.monotonic()

    def serve(self) -> None:
        """Return when all targets have ended; EOFError if the program wants no more or is gone."""
        try:
            for _ in range(self._work.processes):
                self._start_process()
            while self._running:
                self._turn()
        finally:
            self._end_all()

    def _turn(self) -> None:
        """Wait until there is something to do, and do it."""
        talking = [process for process in self._running if not process.is_silent]
        patience_s = _CHECK_INTERVAL_S if len(talking) == len(self._running) else _EXIT_POLL_S
        ready = _readable([self._program, *(process.line for process in talking)], patience_s)
        if self._program in ready:
            raise EOFError  # the program sends nothing
        for process in talking:
            if process.line in ready:
                self._hear(process)
        is_due = time.monotonic() - self._checked_s > _CHECK_INTERVAL_S
        for process in list(self._running):
            # One that died without notice has left its connection to a process that it had started.
            if (process.is_silent or is_due) and has_exited(process.pid):
                self._hear(process)
                self._remove(process)
        if is_due:
            self._checked_s = time.monotonic()
            self._check_memory()

    def _start_process(self) -> None:
        others = [self._program, *(process.line for process in self._running)]
        process = _Running(*_fork(lambda line: _TargetProcess(self._work, line).serve(), others))
        self._running.append(process)
        self._give(process)

    def _give(self, process: _Running) -> None:
        """Give a process the next target; without one let it end."""
        if self._next == len(self._work.targets):
            process.index = None
            process.line.shutdown(socket.SHUT_WR)
            return
        process.index, self._next = self._next, self._next + 1
        with suppress(ConnectionError):  # it has died meanwhile, which is seen by what follows
            process.line.sendall(_INDEX.pack(process.index))

    def _hear(self, process: _Running) -> None:
        """Take what a process tells: how its target has ended."""
        process.is_silent = not _drain(process.line, process.data)
        for message in messages.taken_out(process.data):
            self._give(process)
            messages.send(self._program.fileno(), message)

    def _remove(self, process: _Running) -> None:
        """Forget a process that has exited; if it had a target, tell that and start another process."""
        if process.index is not None:
            _kill_group(process.pid)  # what its target has started; until it is reaped its number cannot be another's
        _, status = os.waitpid(process.pid, 0)
        self._running.remove(process)
        process.line.close()
        if process.index is None:
            return
        reason = self._kill_reasons.pop(process.pid, None) or self._cause(os.waitstatus_to_exitcode(status))
        self._report_death(process, reason)
        if self._next < len(self._work.targets):
            self._start_process()

    def _report_death(self, process: _Running, reason: str) -> None:
        """Tell the records and the program that a target has died with its process."""
        assert process.index is not None
        self._work.report_death(process.pid, reason)
        text = f"task {self._work.task.name} (call {process.index + 1}): {reason}"
        told: _Told = process.index, _killed(process.pid, text), []
        messages.send(self._program.fileno(), pickle.dumps(told))

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
            process.line.close()  # a process whose target is isolated ends that, with all that it has started
            if not self._work.task.isolate:
                _kill_group(process.pid)
        deadline = time.monotonic() + _END_PATIENCE_S
        for process in self._running:
            while not has_exited(process.pid) and time.monotonic() < deadline:
                time.sleep(_EXIT_POLL_S)
            _kill_group(process.pid)
            os.waitpid(process.pid, 0)
            if process.index is not None:
                with suppress(OSError):  # the program may be gone
                    self._report_death(process, GIVEN_UP)


# --- a process that runs targets --------------------------------------------------------------------------------------


class _TargetProcess:
    """Runs one target after the other, as a worker does."""

    def __init__(self, work: PoolWork, line: socket.socket) -> None:
        self._work = work
        self._line = line
        self._identity = messages.identity(line.fileno())
        self._losses: list[tuple[str, str]] = []

    def serve(self) -> None:
        """Return when there are no more targets; EOFError if none is wanted any more."""
        if not self._work.task.isolate:
            _pass_for_worker()
        run = self._join_run()
        failure: RunmemError | None = None
        try:
            run_one, end = self._runner()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            failure = RunmemError(f"the task cannot be loaded in a process forked from the program: {reason}.")
        while data := self._line.recv(_INDEX.size):
            (index,) = _INDEX.unpack(data)
            ended = self._run_target(run, index, run_one) if failure is None else failure
            losses, self._losses = self._losses, []
            messages.send(self._line.fileno(), pickle.dumps((index, ended, losses)))
        if failure is None:
            end()
        if run is not None:
            run.close()

    def _join_run(self) -> WorkerRun | None:
        """Join the run. A process that cannot measure runs targets all the same."""

        def note_loss(message: dict[str, Any]) -> None:
            if "lost" in message:
                self._losses.append((message["place"], message["lost"]))

        work = self._work
        try:
            run = WorkerRun(work.run, work.memory_limit_bytes, note_loss, samples=False)
        except Exception as error:
            place = f"process {os.getpid()} on node {node_name()}"
            self._losses.append((place, f"the memory of its targets was not measured: {error}"))
            return None
        worker_runs[work.run.run_id] = run
        set_report_sink(run.report)
        return run

    def _runner(self) -> tuple[Callable[[bytes, float | None], Outcome], Callable[[], None]]:
        """Return what runs a target, and what ends that."""
        correct_lsst_timer()
        setup: ServerSetup = pickle.loads(self._work.task.setup)
        set_logging(setup.log_levels)
        runner = setup.load_runner()
        if not self._work.task.isolate:
            make_runner = copier(runner)

            def run_here(target: bytes, _: float | None) -> Outcome:
                outcome = call_runner(make_runner(), pickle.loads(target))
                self._check_line()
                return outcome

            return run_here, lambda: None
        children = Children(self._line, runner)

        def run_in_child(target: bytes, timeout_s: float | None) -> Outcome:
            try:
                return children.run(target, timeout_s)
            except EOFError:  # nobody wants it any more: its record says so, not this process
                os._exit(1)

        return run_in_child, children.end

    def _run_target(
        self, run: WorkerRun | None, index: int, run_one: Callable[[bytes, float | None], Outcome]
    ) -> Ended:
        data_id, target = self._work.targets[index]

        def body() -> Ended:
            return run_limited(run_one, self._work.limit_s, self._work.deadline_s, target)

        if run is None or not run.measures:
            return body()
        run.began(index + 1)
        ended: Ended = run.measured(index + 1, self._work.task.named(data_id), True, body)
        run.bundle_ended()
        return ended

    def _check_line(self) -> None:
        """End this process, before its target is recorded as finished, if the target has cut it off."""
        with suppress(OSError):
            if messages.identity(self._line.fileno()) == self._identity:
                return
        print("runmem: a target has closed all files of its process, which ends with it", file=sys.stderr)
        _exit(1)


def _pass_for_worker() -> None:
    """Be taken for a worker by what the targets call, which starts no further processes then; end with the parent."""
    import multiprocessing

    from runmem.clusters.spawning import WORKER_NAME

    multiprocessing.current_process().name = f"{WORKER_NAME} (forked)"
    die_with_parent()()


# --- forking ----------------------------------------------------------------------------------------------------------


def _fork(body: Callable[[socket.socket], None], others: Iterable[socket.socket] = ()) -> tuple[int, socket.socket]:
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


def _be_forked(body: Callable[[socket.socket], None], line: socket.socket, foreign: list[socket.socket]) -> NoReturn:
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
        body(line)
        code = 0
    except (EOFError, ConnectionError):
        pass  # nothing is wanted any more
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        _exit(code)


def _exit(code: int) -> NoReturn:
    """End this process without what the program does at its end."""
    try:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
    finally:
        os._exit(code)


def _kill_group(pid: int) -> None:
    """Kill a process that is not reaped yet, and what it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _readable(lines: Iterable[socket.socket], patience_s: float | None) -> set[socket.socket]:
    """Wait until something can be read, or the other side is gone; return where. At most so many seconds."""
    poll = select.poll()
    by_descriptor = {line.fileno(): line for line in lines}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    found = poll.poll(None if patience_s is None else max(0.0, min(patience_s, _LONGEST_WAIT_S)) * 1000)
    return {by_descriptor[descriptor] for descriptor, _ in found}


def _drain(line: socket.socket, data: bytearray) -> bool:
    """Add all that can be read now to `data`; return whether the other side is still there."""
    try:
        return messages.drain(line.fileno(), data)
    except ConnectionError:
        return False
