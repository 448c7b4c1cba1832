"""Targets that begin at once, in processes forked from the program, while there is no cluster yet.

Starting a cluster takes seconds; a fork takes milliseconds. Each process here is to its targets what a worker is: it
runs one at a time, in a child of its own if targets are isolated, and writes the same lines about them to the spool.

The numbers of the targets wait in a pipe, from which each process takes the next. To take over what is left somebody
reads the pipe empty: what was taken before goes on to its end, and nothing runs twice.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from runmem.execution.worker_run import RunOnWorkers
from runmem.memory.limits import oom_kill_count
from runmem.memory.process import own_process, resident_bytes_of
from runmem.store.node_name import node_name
from runmem.task_runner.fork_server import has_exited, how_it_died
from runmem.task_runner.forked_process import HELD_BACK, NUMBER, ForkedProcess, Work
from runmem.task_runner.isolation import GIVEN_UP, Ended
from runmem.task_runner.mailbox import Mailbox, Sender, pair, wait_for_call
from runmem.task_runner.target_records import Slots, TargetLines, unpacked

__all__ = ["HeadStart", "hold", "may_fork"]

_LARGEST_BYTES = 256 * 1024**2
_MEMORY_SHARE = 0.95  # as Dask's nanny has it
_GRACE_S = 1.0
_LOOK_S = 0.2  # so often it is taken what processes tell: often enough for the records, seldom enough for the targets
_SHORT_S = 0.001
_PIECE = 1024  # numbers that a pipe takes as a whole or not at all


def may_fork() -> bool:
    """Tell whether this process can be forked with good conscience: Linux, no other thread of Python's, not large.

    The numerical libraries' own threads are no obstacle, as they are turned off. What the program holds would be in
    the base of each target, and in the node's total once for each.
    """
    is_alone = sys.platform.startswith("linux") and threading.active_count() == 1
    return is_alone and own_process().resident_bytes() < _LARGEST_BYTES


def hold(lock: str) -> None:
    """Return when nobody has a file locked: a worker that does this leaves its core to the process that has."""
    with suppress(FileNotFoundError), open(lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX)


class _Process(NamedTuple):
    """A forked process, seen from the program."""

    pid: int
    number: int
    mailbox: Mailbox


class HeadStart:
    """Processes that have begun with targets.

    Parameters
    ----------
    work : Work
    run : RunOnWorkers
    processes : int
        How many.
    limit_bytes : int or None
        Memory that each may use.
    tell_death : callable
        Takes the number of a process and why it died, for the record of its target.

    Attributes
    ----------
    ended : dict
        How targets have ended, by their index.
    results : dict
        What targets returned, by their index; not what could not be unpickled.
    lost : list of (place, what)
        What was not measured, for the run: it may not have begun when this is known.
    """

    def __init__(
        self,
        work: Work,
        run: RunOnWorkers,
        processes: int,
        limit_bytes: int | None,
        tell_death: Callable[[int, str], None],
    ) -> None:
        self.ended: dict[int, Ended] = {}
        self.results: dict[int, Any] = {}
        self.lost: list[tuple[str, str]] = []
        self._any_died = False
        self._work = work
        self._run = run
        self._limit_bytes = limit_bytes
        self._tell_death = tell_death
        self._numbers, self._given = _numbered(len(work.targets))
        self._left: list[int] | None = None
        self._slots = Slots(processes)
        self._began_s = time.monotonic()
        self._running: list[_Process] = []
        self._lines: dict[int, TargetLines] = {}  # by process id; none where nothing is measured
        self._leaving: list[_Process] = []  # they have said all, and need some milliseconds to be gone
        self._turn = threading.Lock()  # whoever has it may end processes, or wait for them
        self._follower = threading.Thread(target=self._follow, name="runmem-head-start", daemon=True)
        self._failure: BaseException | None = None
        self._given_up = False
        self._oom_kills = oom_kill_count()
        self._reasons: dict[int, str] = {}  # why processes were ended, by their numbers
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()  # else each process would write it once more
        try:
            for number in range(processes):
                self._running.append(self._fork(number))
            self._lines.update((process.pid, self._lines_of(process.pid)) for process in self._running if run.measures)
            self._follower.start()  # now, as there is no more to be forked
        except BaseException:
            self.close()
            raise

    @property
    def is_over(self) -> bool:
        """Whether all processes have ended or are about to, and all that they told was taken."""
        return not self._running

    @property
    def has_lost_one(self) -> bool:
        """Whether a process has died of its target, so that what waits has one less."""
        return self._any_died and self._waiting > 0

    @property
    def _waiting(self) -> int:
        return len(self._work.targets) - len(self.ended) - len(self._running)

    def left_s(self) -> float:
        """Return how long what nobody has begun yet is likely to take: infinite where no target has ended."""
        if self._waiting <= 0:
            return 0.0
        if not self.ended:
            return float("inf")
        return self._waiting * (time.monotonic() - self._began_s) / len(self.ended)

    def wait(self, patience_s: float) -> None:
        """Wait until it is over, at most so long."""
        self._follower.join(patience_s)
        if self._failure is not None:
            raise self._failure

    def wait_until_begun(self, patience_s: float) -> None:
        """Leave the processors to the processes until each has its first target, but not longer than this."""
        deadline = time.monotonic() + patience_s
        numbers = [process.number for process in self._running]
        while time.monotonic() < deadline and not all(map(self._slots.target_of, numbers)):
            time.sleep(_SHORT_S)

    def stop_giving(self) -> list[int]:
        """Give no more targets; return the indexes of those that nobody has begun, in their order."""
        if self._left is None:
            data = bytearray()
            while piece := os.read(self._numbers, _PIECE * NUMBER.size):
                data += piece
            os.close(self._numbers)
            unread = [number for (number,) in NUMBER.iter_unpack(data)]
            self._left = [*unread, *range(self._given, len(self._work.targets))]
        return self._left

    def locks(self) -> list[str]:
        """Return files that are locked, each by a process that still runs a target, as long as it does."""
        return [str(self._lock_of(process.number)) for process in self._running]

    def close(self) -> None:
        """End all processes, with the targets that they run."""
        self.stop_giving()
        self._given_up = True
        with self._turn:
            for process in self._running:
                process.mailbox.hang_up()
                if not self._work.isolate:
                    _kill_group(process.pid)
        self._let_end(_GRACE_S)
        with self._turn:
            for process in self._running:
                _kill_group(process.pid)
        self._let_end(None)
        deadline = time.monotonic() + _GRACE_S
        while self._leaving:
            process = self._leaving[-1]
            if os.waitpid(process.pid, os.WNOHANG)[0]:
                self._leaving.pop()
            else:
                if time.monotonic() > deadline:
                    _kill_group(process.pid)
                time.sleep(_SHORT_S)

    def _let_end(self, patience_s: float | None) -> None:
        if not self._follower.ident:  # not all could be forked
            self._follower.start()
        self._follower.join(patience_s)

    # --- in a thread, as an interrupt must not come in the middle of it -----------------------------------------------

    def _follow(self) -> None:
        """Take what the processes tell, until they have ended."""
        try:
            while self._running:
                wait_for_call([process.mailbox for process in self._running], _LOOK_S)
                with self._turn:
                    ending = [process for process in list(self._running) if not self._look_at(process)]
                    self._watch_memory()
                if ending:  # soon; or never, where a target has closed all files of its process
                    time.sleep(_SHORT_S)
        except BaseException as error:
            self._failure = error

    def _look_at(self, process: _Process) -> bool:
        """Take what a process tells; return whether it is still in touch."""
        is_there = process.mailbox.answer()  # asked first: what it told before it ended is there then
        for message in process.mailbox.received():
            self._take(process, message)
        if (lines := self._lines.get(process.pid)) is not None:
            begun = self._slots.begun_by(process.number)
            if begun is not None and begun.target - 1 not in self.ended:
                lines.begun(begun)
            lines.flush()
        if not is_there and not self._slots.target_of(process.number):
            self._part_from(process)
            self._leaving.append(process)
        elif not is_there and has_exited(process.pid):
            self._part_from(process)
            self._bury(process)
        return is_there

    def _take(self, process: _Process, message: bytes) -> None:
        told = unpacked(message)
        if len(told) == 2:
            self.lost.append(told)
            return
        index, ended, measured = told
        if ended.value is not None:
            with suppress(Exception):  # raised where the results are wanted
                self.results[index] = pickle.loads(ended.value)
                ended = ended._replace(value=b"")  # it may be large, and is here now
        self.ended[index] = ended
        if measured is not None and (lines := self._lines.get(process.pid)) is not None:
            try:
                lines.ended(index + 1, measured)
            except Exception as error:  # the target has ended all the same
                self.lost.append((f"target {index + 1}", f"its record cannot be written: {error}"))

    def _part_from(self, process: _Process) -> None:
        """Close what there is of a process here."""
        self._running.remove(process)
        if (lines := self._lines.get(process.pid)) is not None:
            lines.close()
            if (lost := lines.lost) is not None:
                self.lost.append((f"process {process.pid} on node {node_name()}", lost))
        process.mailbox.close()

    def _bury(self, process: _Process) -> None:
        """Note that a process has died, and the target that it took along."""
        _kill_group(process.pid)  # what its target has started; until it is reaped its number cannot be another's
        _, status = os.waitpid(process.pid, 0)
        current, code = self._slots.target_of(process.number), os.waitstatus_to_exitcode(status)
        if current - 1 in self.ended:  # it died after it told
            return
        if self._given_up:
            self._tell_death(process.pid, GIVEN_UP)
            return
        self._any_died = True
        reason = self._reasons.get(process.pid) or self._cause(code)
        self._tell_death(process.pid, reason)
        told = f"task {self._work.task.name} (call {current}): {reason}"
        self.ended[current - 1] = Ended(node_name(), process.pid, None, None, [], told, False)

    def _cause(self, code: int) -> str:
        before, self._oom_kills = self._oom_kills, oom_kill_count()
        if code == -signal.SIGKILL and None not in (before, self._oom_kills) and before != self._oom_kills:
            return "the kernel's out-of-memory killer ended its process (signal 9)"
        return how_it_died(code)

    def _watch_memory(self) -> None:
        """End a process that uses nearly all that it may, as Dask's nanny ends a worker."""
        if self._limit_bytes is None or self._work.isolate:
            return
        for process in self._running:
            if (resident_bytes_of(process.pid) or 0) > _MEMORY_SHARE * self._limit_bytes:
                self._reasons[process.pid] = (
                    f"its process used more than {_MEMORY_SHARE * 100:.0f} % of its memory limit"
                )
                os.kill(process.pid, signal.SIGKILL)

    def _lock_of(self, number: int) -> Path:
        return Path(self._run.spool) / f"head-start-{number}.lock"

    def _fork(self, number: int) -> _Process:
        mailbox, sender = pair()
        parent = os.getpid()
        # Held back meanwhile: in the child an interrupt must not go up through what the program has on its stack.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # threads: see `may_fork`
                pid = os.fork()
            if pid == 0:
                self._be_process(parent, number, mailbox, sender)
            with suppress(OSError):  # done by both: whoever is first
                os.setpgid(pid, pid)
            sender.close()
            return _Process(pid, number, mailbox)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _lines_of(self, pid: int) -> TargetLines:
        targets, task = self._work.targets, self._work.task
        return TargetLines(
            Path(self._run.spool),
            node_name(),
            self._limit_bytes,
            pid,
            lambda target: task.named(targets[target - 1][0]),
        )

    def _be_process(self, parent: int, number: int, mailbox: Mailbox, sender: Sender) -> None:
        """Go on as the process that was forked; never returns."""
        try:
            mailbox.close()
            for process in self._running:
                process.mailbox.close()
            ForkedProcess(
                number, self._work, self._run, self._limit_bytes, self._numbers, self._slots, sender,
                self._lock_of(number),
            ).live(parent)  # fmt: skip
        finally:
            os._exit(1)


def _kill_group(pid: int) -> None:
    """Kill a process that is not reaped yet, and what it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _numbered(count: int) -> tuple[int, int]:
    """Return a pipe that holds the numbers from 0 on, and how many: `count`, or as many as there is room for."""
    numbers, give = os.pipe()
    os.set_blocking(give, False)
    given = 0
    with suppress(BlockingIOError):
        while given < count:
            piece = range(given, min(given + _PIECE, count))
            os.write(give, b"".join(map(NUMBER.pack, piece)))
            given = piece.stop
    os.close(give)
    return numbers, given
